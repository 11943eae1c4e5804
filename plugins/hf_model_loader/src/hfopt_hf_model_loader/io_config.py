"""``io_config``: what a model takes and returns, by name, as a config or a function of a user's script says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hfopt import Config
from hfopt.api.config import OptionError
from hfopt_hf_model_loader.kv_cache import KvCacheConfig


def _by_position(axes: Any) -> Any:
    """Axes by number: JSON has strings for keys."""
    if isinstance(axes, Mapping) and all(str(key).isdecimal() for key in axes):
        return {int(key): axis for key, axis in axes.items()}
    return axes


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("names none")
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"names {twice[0]!r} twice")
    return names


def _dtype(written: Any) -> Any:
    return written.removeprefix("torch.") if isinstance(written, str) else written


Dtype = Annotated[
    Literal["bfloat16", "bool", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "uint8"],
    BeforeValidator(_dtype),
]
Axes = Annotated[dict[int, str], BeforeValidator(_by_position)]
Names = Annotated[tuple[str, ...], AfterValidator(_some)]
Shape = tuple[Annotated[int, Field(ge=1)], ...]


class IoConfig(Config):
    """``io_config``."""

    input_names: Names = Field(description="Inputs, in the order of the graph's.")
    output_names: Names | None = Field(
        None, description="Outputs, in the order in which the model returns them; null: those that it names itself."
    )
    input_shapes: tuple[Shape, ...] | None = Field(
        None, description="Of inputs of ones, where there is no dummy_inputs_func."
    )
    input_types: tuple[Dtype, ...] | None = Field(None, description="Their dtypes, such as int64; null: float32.")
    output_shapes: tuple[tuple[int | str, ...], ...] | None = Field(
        None, description="Of no effect: the model tells them."
    )
    output_types: tuple[str, ...] | None = Field(None, description="Of no effect: the model tells them.")
    dynamic_axes: dict[str, Axes] | None = Field(
        None, description='Names of axes whose size may change: {"input_ids": {"0": "batch_size"}}.'
    )
    string_to_int_dim_params: tuple[str, ...] | None = Field(
        None, description='Of those names, numbers that are sizes after all: ["64"].'
    )
    kv_cache: bool | KvCacheConfig | None = Field(
        None,
        description="Keys and values of earlier tokens are inputs and outputs too, past_key_values.N.key and "
        "present.N.key: true, or their options.",
    )

    @model_validator(mode="after")
    def _counts(self) -> IoConfig:
        for names, many in (
            ("input_names", ("input_shapes", "input_types")),
            ("output_names", ("output_types", "output_shapes")),
        ):
            for option in many:
                values, count = getattr(self, option), len(getattr(self, names) or ())
                if values is not None and len(values) != count:
                    raise OptionError(option, f"has {len(values)} entries, and {names} has {count}")
        return self

    def axes(self, name: str, shape: tuple[int, ...]) -> tuple[int | str, ...]:
        """An input's or output's axes: the names that are given to them, and sizes."""
        named, sizes = (self.dynamic_axes or {}).get(name, {}), self.string_to_int_dim_params or ()
        wanted = [named.get(position, size) for position, size in enumerate(shape)]
        return tuple(int(axis) if axis in sizes and str(axis).isdecimal() else axis for axis in wanted)

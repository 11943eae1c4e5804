"""``kv_cache`` of an io_config: keys and values of earlier tokens, besides the inputs and outputs that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hfopt import Config, PreconditionFailed, TensorSpec
from hfopt.api.config import only
from hfopt.api.example import BATCH_AXIS, MASK, PAST_AXIS
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import IDS, PRESENT

if TYPE_CHECKING:
    from hfopt_hf_model_loader.io_config import IoConfig

_TOLD = "Of no effect: the model tells it."
_NAMES = "keys and values are called past_key_values.<id>.key and present.<id>.key, as optimum calls them"
_ACCEPTED = [f"{kind}.<id>.{part}" for kind in (PAST, PRESENT) for part in ("key", "value")]
_Name = Annotated[str | None, only(None, *_ACCEPTED, because=_NAMES)]


class KvCacheConfig(Config):
    """``kv_cache`` as a dict."""

    num_hidden_layers: int | None = Field(None, description=_TOLD)
    num_attention_heads: int | None = Field(None, description=_TOLD)
    hidden_size: int | None = Field(None, description=_TOLD)
    batch_size: int | None = Field(None, description="Of no effect: that of input_ids.")
    past_sequence_length: int | None = Field(
        None, ge=1, description="Earlier tokens in dummy inputs; null: by how many attention_mask is longer."
    )
    ort_past_key_name: _Name = Field(None, description="past_key_values.<id>.key")
    ort_past_value_name: _Name = Field(None, description="past_key_values.<id>.value")
    ort_present_key_name: _Name = Field(None, description="present.<id>.key")
    ort_present_value_name: _Name = Field(None, description="present.<id>.value")
    dtype: Annotated[str, only("float32", because="torch_dtype of the model and of passes says it")] = Field(
        "float32", description="float32."
    )
    world_size: Annotated[int, only(1, because="a model is exported whole in this version")] = Field(
        1, description="1."
    )
    shared_kv: Annotated[bool, only(False, because="keys and values are inputs of their own in this version")] = Field(
        False, description="false."
    )
    sequence_length_idx: Annotated[int, only(2, because="keys and values are [batch, heads, tokens, width]")] = Field(
        2, description="2."
    )
    past_kv_dynamic_axis: dict[str, str] | None = Field(
        None, description="Of no effect: those of input_ids and the past."
    )
    present_kv_dynamic_axis: dict[str, str] | None = Field(None, description="Of no effect: those of input_ids.")


def with_cache(io: IoConfig, derived: Sequence[TensorSpec]) -> IoConfig:
    """An io_config that names what is kept too, if its ``kv_cache`` asks for that.

    The mask is of all tokens: its second axis is called the sum of the past's and the new tokens' axes, by which
    examples of any size can be made.

    :param derived: the model's inputs as hfopt finds them
    :raises PreconditionFailed: these have no past, or input_shapes leave no room for one
    """
    if not io.kv_cache:
        return io
    past = [spec for spec in derived if spec.name.startswith(f"{PAST}.")]
    if not past or IDS not in io.input_names:
        raise PreconditionFailed(
            "kv_cache: the model is not known to keep keys and values of earlier tokens",
            hint="write task: text-generation in hf_config, and input_ids among input_names; or leave kv_cache out",
        )
    kept = [spec.name for spec in past]
    written = [spec.name.replace(PAST, PRESENT, 1) for spec in past]
    changes: dict[str, Any] = {"kv_cache": None, "output_shapes": None, "output_types": None}
    changes["input_names"] = (*io.input_names, *kept)
    if io.output_names is not None:
        changes["output_names"] = (*io.output_names, *written)
    if io.input_shapes is not None:
        shapes = dict(zip(io.input_names, io.input_shapes, strict=True))
        sizes = {BATCH_AXIS: shapes[IDS][0], PAST_AXIS: _past_length(io, shapes)}
        more = [tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.axes) for spec in past]
        changes["input_shapes"] = (*io.input_shapes, *more)
        types = io.input_types or ("float32",) * len(io.input_names)
        changes["input_types"] = (*types, *(spec.dtype for spec in past))
    if io.dynamic_axes is not None:
        named = io.dynamic_axes.get(IDS, {})
        first = {0: named[0]} if 0 in named else {}
        both = f"{PAST_AXIS} + {named[1]}" if 1 in named else "total_sequence_length"
        axes = {name: {**first, 2: PAST_AXIS} for name in kept} | {name: {**first, 2: both} for name in written}
        changes["dynamic_axes"] = {**io.dynamic_axes, **axes, MASK: {**first, 1: both}}
    return io.model_copy(update=changes)


def _past_length(io: IoConfig, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Earlier tokens in dummy inputs: as written, else by how many the mask is longer than the new ones."""
    length = getattr(io.kv_cache, "past_sequence_length", None)
    if length is None:
        length = shapes[MASK][-1] - shapes[IDS][-1] if MASK in shapes else shapes[IDS][-1]
    if (MASK in shapes and shapes[MASK][-1] != length + shapes[IDS][-1]) or length < 1:
        raise PreconditionFailed(
            f"kv_cache: attention_mask has {shapes[MASK][-1]} tokens in input_shapes, and input_ids {shapes[IDS][-1]}",
            hint="a mask is of new tokens and of those before them: make it longer",
        )
    return int(length)

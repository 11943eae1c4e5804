"""``hf_config`` of an Olive config: which model of Hugging Face, for which task, loaded how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from hfopt import Config
from hfopt.api.config import only
from hfopt_hf_model_loader.tasks import known_task

_LATER = "not available in this version"
_WHOLE = "models of several parts are not loaded in this version"


class FromPretrainedArgs(Config):
    """``from_pretrained_args``; any other key is taken as one of extra_args."""

    torch_dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = Field(
        None, description="How weights are held; auto: as they were saved; null: float32."
    )
    attn_implementation: str | None = Field(None, description="eager, sdpa...; null: the model's own.")
    trust_remote_code: bool | None = Field(
        None, description="Accepted; code from model folders is not run in this version."
    )
    device_map: Annotated[Any, only(None, "cpu", because="this version loads models on the CPU")] = Field(
        None, description="cpu."
    )
    max_memory: Annotated[dict[str, Any] | None, only(None, {}, because=_LATER)] = Field(
        None, description="Not available."
    )
    quantization_method: Annotated[str | None, only(None, because=_LATER)] = Field(None, description="Not available.")
    quantization_config: Annotated[dict[str, Any] | None, only(None, {}, because=_LATER)] = Field(
        None, description="Not available."
    )
    extra_args: dict[str, Any] | None = Field(
        None, description="More arguments of from_pretrained, such as the revision of a model on the hub."
    )

    @model_validator(mode="before")
    @classmethod
    def _sweep(cls, value: Any) -> Any:
        """Olive's rule for keys that it does not know; ``dtype`` is the later name of ``torch_dtype``."""
        if not isinstance(value, dict) or not isinstance(value.get("extra_args") or {}, dict):
            return value
        value = {"torch_dtype" if name == "dtype" else name: each for name, each in value.items()}
        known = {name: each for name, each in value.items() if name in cls.model_fields}
        others = {name: each for name, each in value.items() if name not in cls.model_fields}
        return known | {"extra_args": {**(known.get("extra_args") or {}), **others}} if others else known


class HfConfig(Config):
    """``hf_config``."""

    model_name: str | None = Field(
        None, description="A model on the hub, or a local folder; with model_path, any name."
    )
    task: Annotated[str | None, AfterValidator(known_task)] = Field(None, description="What the model is for.")
    model_class: str | None = Field(None, description="A class of transformers, where there is no task.")
    from_pretrained_args: FromPretrainedArgs | None = Field(None, description="How to load it.")
    feature: Annotated[str | None, only(None, because="task says what to export")] = Field(
        None, description="Not available."
    )
    components: Annotated[tuple[Any, ...] | None, only(None, (), because=_WHOLE)] = Field(
        None, description="Not available."
    )

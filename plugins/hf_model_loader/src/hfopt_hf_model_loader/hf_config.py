"""``hf_config`` of an Olive config: which model of Hugging Face, for which task, loaded how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hfopt import Config
from hfopt.api.config import OptionError
from hfopt_hf_model_loader.script_options import ComponentConfig
from hfopt_hf_model_loader.tasks import TASKS, known_task


def _without_module(dtype: Any) -> Any:
    return dtype.removeprefix("torch.") if isinstance(dtype, str) else dtype


def _apart(components: tuple[ComponentConfig, ...] | None) -> tuple[ComponentConfig, ...] | None:
    names = [each.name.casefold() for each in components or ()]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"two components are called {twice[0]!r}")
    return components


def _place(device_map: Any) -> Any:
    if device_map not in (None, "cpu", "auto"):
        raise ValueError("must be cpu or auto: the accelerator says on which device a model runs")
    return device_map


class FromPretrainedArgs(Config):
    """``from_pretrained_args``; any other key is taken as one of extra_args."""

    torch_dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"] | None, BeforeValidator(_without_module)
    ] = Field(None, description="How weights are held; auto: as they were saved; null: float32.")
    attn_implementation: str | None = Field(None, description="eager, sdpa...; null: the model's own.")
    trust_remote_code: bool | None = Field(
        None, description="Run the model's own code, which lies in its folder or repository."
    )
    device_map: Annotated[Any, AfterValidator(_place)] = Field(
        None, description="cpu or auto: where the accelerator says; auto also spreads it over several GPUs."
    )
    max_memory: dict[str, int | str] | None = Field(
        None, description="What each device may hold, with device_map auto; needs accelerate."
    )
    quantization_method: Literal["bitsandbytes", "gptq"] | None = Field(
        None, description="By which package weights are quantized when they are loaded."
    )
    quantization_config: dict[str, Any] | None = Field(
        None, description="Options of transformers' BitsAndBytesConfig or GPTQConfig."
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

    @model_validator(mode="after")
    def _together(self) -> FromPretrainedArgs:
        if self.max_memory and self.device_map != "auto":
            raise OptionError("max_memory", "needs device_map: auto")
        if (self.quantization_method is None) != (not self.quantization_config):
            missing = "quantization_config" if self.quantization_method else "quantization_method"
            raise OptionError(missing, "quantization_method and quantization_config are written together")
        return self


def _known_feature(feature: str | None) -> str | None:
    known_task(feature)
    return feature


class HfConfig(Config):
    """``hf_config``."""

    model_name: str | None = Field(
        None, description="A model on the hub, or a local folder; with model_path, any name."
    )
    task: Annotated[str | None, AfterValidator(known_task)] = Field(None, description="What the model is for.")
    model_class: str | None = Field(None, description="A class of transformers, where there is no task.")
    from_pretrained_args: FromPretrainedArgs | None = Field(None, description="How to load it.")
    feature: Annotated[str | None, AfterValidator(_known_feature)] = Field(
        None,
        description="What the model is for, by a name of transformers.onnx's features. causal-lm: logits alone; "
        "causal-lm-with-past: it also takes and returns what it keeps of earlier tokens, as text-generation does "
        "unless this or use_cache: false says otherwise.",
    )
    components: Annotated[tuple[ComponentConfig, ...] | None, AfterValidator(_apart)] = Field(
        None, description="Parts of it, which functions of model_script make: each is converted by itself."
    )

    @property
    def arguments(self) -> FromPretrainedArgs:
        """``from_pretrained_args``, or their defaults."""
        return self.from_pretrained_args or FromPretrainedArgs()

    @model_validator(mode="after")
    def _has_one_task(self) -> HfConfig:
        task = known_task(self.feature)
        if task is None or self.feature == "default":
            return self
        if self.task is None and self.model_class is None:
            return self.model_copy(update={"task": task})
        if self.task is not None and TASKS[self.task] != TASKS[task]:
            raise OptionError("feature", f"is of {task}, and task is {self.task}: leave feature out")
        return self

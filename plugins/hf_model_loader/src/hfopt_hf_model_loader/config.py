"""Options of ``PyTorchModel``: what an Olive config says of a Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from hfopt import Config
from hfopt.api.config import InputPath, Surroundings, UnknownName, find_input, only

_LATER = "not available in this version"
_SCRIPTS = "user scripts are not run in this version"

TASKS: Mapping[str, str] = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "ner": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "sentiment-analysis": "AutoModelForSequenceClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}
"""The transformers class that loads a model for a task."""


def _known_task(task: str | None) -> str | None:
    if task is not None and task not in TASKS:
        raise UnknownName("task", task, sorted(TASKS))
    return task


class FromPretrainedArgs(Config):
    """``from_pretrained_args``; any other key is taken as one of extra_args."""

    torch_dtype: Annotated[
        str | None, only(None, "auto", "float32", because="this version loads models in float32")
    ] = Field(None, description="float32.")
    attn_implementation: str | None = Field(None, description="eager, sdpa...; null: the model's own.")
    trust_remote_code: Annotated[bool, only(False, because="code from model folders is not run in this version")] = (
        Field(False, description="Not available.")
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
    extra_args: dict[str, Any] = Field({}, description="More arguments of from_pretrained.")

    @model_validator(mode="before")
    @classmethod
    def _sweep(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("extra_args", {}), dict):
            return value
        known = {name: each for name, each in value.items() if name in cls.model_fields}
        others = {name: each for name, each in value.items() if name not in cls.model_fields}
        return known | {"extra_args": {**known.get("extra_args", {}), **others}} if others else known


class HfConfig(Config):
    """``hf_config``."""

    model_name: str | None = Field(None, description="A local folder; with model_path, any name.")
    task: Annotated[str | None, AfterValidator(_known_task)] = Field(None, description="What the model is for.")
    model_class: str | None = Field(None, description="A class of transformers, where there is no task.")
    from_pretrained_args: FromPretrainedArgs = Field(FromPretrainedArgs(), description="How to load it.")
    feature: Annotated[str | None, only(None, because=_LATER)] = Field(None, description="Not available.")
    components: Annotated[tuple[Any, ...] | None, only(None, (), because=_LATER)] = Field(
        None, description="Not available."
    )

    @model_validator(mode="after")
    def _has_a_head(self) -> HfConfig:
        if self.task is None and self.model_class is None:
            raise ValueError("needs task or model_class")
        return self


class PyTorchModelConfig(Config):
    """Options of ``PyTorchModel``."""

    model_path: InputPath | None = Field(None, description="A local folder in Hugging Face format.")
    hf_config: HfConfig = Field(description="What model it is.")
    model_file_format: Annotated[str, only("PyTorch.EntireModel", because=_LATER)] = Field(
        "PyTorch.EntireModel", description="Of no effect with hf_config."
    )
    model_loader: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")
    model_script: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")
    script_dir: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")
    dummy_inputs_func: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")
    io_config: Annotated[Any, only(None, because=_LATER)] = Field(None, description="Not available: found by hfopt.")
    adapter_path: Annotated[str | None, only(None, because=_LATER)] = Field(None, description="Not available.")
    model_attributes: dict[str, Any] = Field({}, description="Merged over the model's own config.")

    @model_validator(mode="after")
    def _has_a_folder(self, info: ValidationInfo) -> PyTorchModelConfig:
        """With model_path alone or with a name that is a folder, `folder` is known; a hub name alone is refused."""
        around = info.context
        if not isinstance(around, Surroundings):
            return self
        if self.model_path is not None:
            return _checked_folder(self, Path(self.model_path))
        if self.hf_config.model_name is None:
            raise ValueError("needs model_path or hf_config.model_name")
        found = find_input(self.hf_config.model_name, around)
        if found is None:
            raise ValueError(
                f"hf_config.model_name: {self.hf_config.model_name!r} is not a local folder; "
                "models are not fetched from a hub in this version"
            )
        around.used_paths.append(found)
        named = self.hf_config.model_copy(update={"model_name": str(found)})
        return _checked_folder(self.model_copy(update={"hf_config": named}), found)

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        return Path(self.model_path or self.hf_config.model_name or "")


def _checked_folder(config: PyTorchModelConfig, folder: Path) -> PyTorchModelConfig:
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; a Hugging Face model is a folder with config.json and its weights")
    return config

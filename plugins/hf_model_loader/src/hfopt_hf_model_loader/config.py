"""Options of ``PyTorchModel``: where the model lies, and what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from hfopt import Reference
from hfopt.api.config import ConfigContext, OptionError, find_input, looks_like_hub_name, unwrap_resource
from hfopt.api.references import MARK
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.script_options import ScriptOptions, needs_script

_NOT_TOLD = "hf_config is required: what the model is for; or model_loader, or io_config beside a file of a whole model"
_OF_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".onnx")
"""What no model on a hub is called."""
MLFLOW = "PyTorch.MLflow"
ENTIRE_MODEL, STATE_DICT, TORCH_SCRIPT = "PyTorch.EntireModel", "PyTorch.StateDict", "PyTorch.TorchScript"
_A_FOLDER = "a Hugging Face model is a folder with config.json and its weights"
_GATHERED = "the parts of an MLflow folder are gathered in hfopt's own cache"


def _model_folder(name: str, info: ValidationInfo) -> str:
    """As `_model_place`, for what is no file."""
    place = _model_place(name, info)
    if isinstance(info.context, ConfigContext) and os.path.isfile(place):
        raise ValueError(f"{place} is a file; {_A_FOLDER}")
    return place


def _model_place(name: str, info: ValidationInfo) -> str:
    """Where a model lies: a local folder or file, absolute and noted as an input of the run; or on the hub."""
    around = info.context
    if not isinstance(around, ConfigContext) or name.startswith(MARK):
        return name
    found = find_input(name, around)
    if found is None:
        if (reference := Reference.of_url(name)) is not None:
            return reference.token
        if name.endswith(_OF_FILES):
            raise ValueError(f"no such file: {name}")
        if not looks_like_hub_name(name):
            raise ValueError(f"no such folder: {name}; and it is not the name of a model on the hub")
        return Reference("hf_model", {"name": name}).token
    if "/" in name and looks_like_hub_name(name):
        around.notices.append(f"{name}: the local folder of that name is taken, not the model on the hub")
    around.used_paths.append(found)
    return str(found)


def _on_hub(place: str | None) -> bool:
    return place is not None and place.startswith(MARK) and Reference.of(place).type == "hf_model"


def _with_options(place: str | None, options: dict[str, Any]) -> str | None:
    """A reference to a model on the hub with its revision, and its code; what lies elsewhere has no such options."""
    if not _on_hub(place):
        return place
    reference = Reference.of(place or "")
    return Reference(reference.type, {**reference.config, **options}).token


def _adapter_folder(name: str, info: ValidationInfo) -> str:
    """As `_model_folder`; of a hub's repository the adapter's files alone."""
    place = _model_folder(name, info)
    if not _on_hub(place):
        return place
    files = ["adapter_model.*"]
    return Reference("hf_model", {**Reference.of(place).config, "weights": False, "files": files}).token


AdapterPlace = Annotated[str, BeforeValidator(unwrap_resource), AfterValidator(_adapter_folder)]
PyTorchPlace = Annotated[str, BeforeValidator(unwrap_resource), AfterValidator(_model_place)]
ModelPlace = Annotated[str, BeforeValidator(unwrap_resource), AfterValidator(_model_folder)]
"""As `hfopt.InputPath`, for a folder, or the name of a model on the hub."""


def _known_without(options: Mapping[str, Any]) -> bool:
    """Whether a model needs no hf_config: a function loads it, or it is whole in a file and io_config describes it."""
    described = options.get("io_config") is not None or options.get("dummy_inputs_func") is not None
    whole = options.get("model_file_format") in (ENTIRE_MODEL, TORCH_SCRIPT) or os.path.isfile(
        options.get("model_path") or ""
    )
    return options.get("model_loader") is not None or (whole and described)


class PyTorchModelConfig(ScriptOptions):
    """Options of ``PyTorchModel``."""

    model_file_format: (
        Literal["PyTorch.EntireModel", "PyTorch.StateDict", "PyTorch.TorchScript", "PyTorch.MLflow"] | None
    ) = Field(
        None,
        description="What model_path is: an MLflow folder, or a file: a whole model as torch.save or TorchScript "
        "writes it, or its weights alone. EntireModel is of no effect on a folder.",
    )
    allow_pickle: bool = Field(
        False, description="Load a whole model that torch.save wrote, which can run any code: only if you trust it."
    )
    model_path: PyTorchPlace | None = Field(
        None,
        description="A local folder in Hugging Face format, or a model on the hub; wins over model_name. Or a file, of "
        "which model_file_format says what it is, and model_name which model's config.json and tokenizer it has. "
        "Or what model_loader gets.",
    )
    hf_config: HfConfig | None = Field(
        None, validate_default=True, description="What model it is; required, unless a script or io_config says."
    )
    adapter_path: AdapterPlace | None = Field(
        None, description="An adapter of PEFT, a folder or on the hub, which is merged into the weights."
    )
    model_attributes: dict[str, Any] | None = Field(None, description="Merged over the model's own config.")
    mlflow_transformer_model_cache_dir: str | None = Field(None, description=f"Of no effect: {_GATHERED}.")

    def ignored(self) -> dict[str, str]:
        return dict.fromkeys(self.written("mlflow_transformer_model_cache_dir"), _GATHERED)

    @field_validator("hf_config")
    @classmethod
    def _find_named(cls, hf_config: HfConfig | None, info: ValidationInfo) -> HfConfig | None:
        """Where there is no model_path, the name is a folder too."""
        if info.data.get("model_file_format") == MLFLOW:
            return hf_config
        known = _known_without(info.data)
        if hf_config is None and not known and "model_path" in info.data:  # whose mistake is told
            raise ValueError(_NOT_TOLD)
        if hf_config is None:
            return None
        if hf_config.task is None and hf_config.model_class is None and not known:
            raise ValueError("needs task or model_class")
        if info.data.get("model_path", "refused") is not None or not isinstance(info.context, ConfigContext):
            return hf_config
        if hf_config.model_name is None and not known:
            raise ValueError("needs model_name, or a model_path beside it")
        if hf_config.model_name is None:
            return hf_config
        return hf_config.model_copy(update={"model_name": _model_folder(hf_config.model_name, info)})

    @model_validator(mode="after")
    def _pin(self, info: ValidationInfo) -> PyTorchModelConfig:
        """What is on the hub, at the revision that from_pretrained would take."""
        if not isinstance(info.context, ConfigContext):
            return self
        for place, component in enumerate(self.hugging_face.components or ()):
            for option, name in component.functions().items():
                if self.model_script is None:
                    raise OptionError(("hf_config", "components", str(place), option), needs_script(name))
        if self.model_file_format == MLFLOW:
            if self.model_path is None or _on_hub(self.model_path):
                raise OptionError("model_path", f"must be a folder, not on the hub, as model_file_format is {MLFLOW}")
            return self
        self._check_file()
        arguments = self.hugging_face.arguments
        options: dict[str, Any] = {"revision": (arguments.extra_args or {}).get("revision")}
        options |= {"code": True} if arguments.trust_remote_code else {}
        options |= {"weights": False, "files": ["*"]} if self.model_loader is not None else {}
        name = _with_options(self.hugging_face.model_name, options)
        if self.file is not None and name is not None:
            name = _with_options(_model_folder(name, info), {**options, "weights": False})
        return self.model_copy(
            update={
                "model_path": _with_options(self.model_path, options),
                "hf_config": self.hf_config and self.hf_config.model_copy(update={"model_name": name}),
            }
        )

    def _check_file(self) -> None:
        """A file needs a format, permission if it is a pickle, and a model beside it that says what it takes."""
        kind, place = self.model_file_format, self.model_path or ""
        if self.model_loader is not None:
            return
        if kind in (STATE_DICT, TORCH_SCRIPT) and self.file is None:
            raise OptionError("model_path", f"must be a local file, as model_file_format is {kind}")
        if kind is None and os.path.isfile(place):
            raise OptionError("model_path", f"{place} is a file; {_A_FOLDER}: for a file, set model_file_format")
        if self.file is not None and kind == ENTIRE_MODEL and not self.allow_pickle:
            fact = f"{place} is a pickle, which can run any code when it is loaded"
            raise OptionError("model_path", f"{fact}: if you trust it, set allow_pickle to true")
        if self.file is not None and self.hugging_face.model_name is None and not self.by_itself:
            raise OptionError("hf_config", "needs model_name: whose config.json says what the file takes")

    @property
    def file(self) -> Path | None:
        """The file that holds the model, or its weights alone; None where a folder does."""
        if self.model_loader is not None:
            return None
        held = self.model_file_format in (ENTIRE_MODEL, STATE_DICT, TORCH_SCRIPT) and self.model_path is not None
        return Path(self.model_path) if held and self.model_path and os.path.isfile(self.model_path) else None

    @property
    def whole_file(self) -> bool:
        """Whether the file holds the whole model."""
        return self.file is not None and self.model_file_format != STATE_DICT

    @property
    def by_itself(self) -> bool:
        """Whether the model needs no config.json: a function or a file has all of it."""
        return self.model_loader is not None or (self.whole_file and self.scripted)

    @property
    def hugging_face(self) -> HfConfig:
        """``hf_config``; empty where the model's own files say what it is."""
        return self.hf_config or HfConfig()

    @property
    def place(self) -> str:
        """The folder with the model's config.json; while it is validated perhaps a reference to one on the hub."""
        given = self.model_path if self.file is None else None
        return given or self.hugging_face.model_name or ""

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        return Path(self.place)

    @property
    def adapter(self) -> Path | None:
        """Where the adapter lies."""
        return None if self.adapter_path is None else Path(self.adapter_path)

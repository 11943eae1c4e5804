"""ONNXModel: an ONNX file or a folder with one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationInfo, model_validator

from hfopt import (
    Accelerator,
    Config,
    FetchContext,
    InputPath,
    ModelHandle,
    ModelLoader,
    PreconditionFailed,
    Session,
)
from hfopt.api.config import ConfigContext, only
from hfopt.api.files import file_inside
from hfopt.api.forecast import MEGABYTE, Weights
from hfopt_onnx_model.providers import why_unavailable
from hfopt_onnx_model.settings import InferenceSettings, chosen_providers, saved, session_snippet, settings_of
from hfopt_onnx_model.snippets import with_sentence

_LOCATION = re.compile(rb"\n\x08location\x12(?:([\x00-\x7f])|([\x80-\xff])([\x01-\x7f]))", re.DOTALL)
"""How an ONNX file says where a tensor's data lie: a name's length in one or two bytes follows, then the name."""


class ONNXModelConfig(Config):
    """Options of ``ONNXModel``."""

    model_path: InputPath | None = Field(None, description="An .onnx file, or a folder that holds it.")
    onnx_file_name: str | None = Field(None, description="Which file of the folder, if it holds several.")
    inference_settings: InferenceSettings | None = Field(None, description="How sessions run it.")
    model_attributes: dict[str, Any] = Field(
        {}, description="Attributes that passes may ask for: model_type, hidden_size..."
    )
    use_ort_extensions: Annotated[
        bool | None, only(None, False, because="onnxruntime-extensions are not loaded in this version")
    ] = Field(None, description="Not available.")
    constant_inputs_file_name: Annotated[
        str | None, only(None, because="inputs from another file are not given to sessions in this version")
    ] = Field(None, description="Not available.")
    external_initializers_file_name: str | None = Field(None, description="Of no effect: the file is found by itself.")

    def ignored(self) -> dict[str, str]:
        why = "initializers beside the model are found by themselves"
        return dict.fromkeys(self.written("external_initializers_file_name"), why)

    @model_validator(mode="after")
    def _external_data_counts(self, info: ValidationInfo) -> Self:
        """The content of files beside the model that hold its weights counts like its own."""
        if isinstance(info.context, ConfigContext) and os.path.isfile(self.model_path or ""):  # it may be a reference
            info.context.used_paths += external_data(Path(self.model_path or ""))
        return self


def external_data(file: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights, found in its bytes: this module imports no onnx."""
    names: set[str] = set()
    with (
        suppress(OSError, ValueError),  # ValueError: the file is empty
        open(file, "rb") as stream,
        mmap(stream.fileno(), 0, access=ACCESS_READ) as graph,
    ):
        for found in _LOCATION.finditer(graph):
            short, low, high = found.groups()
            length = short[0] if short else low[0] - 128 + 128 * high[0]
            names.add(graph[found.end() : found.end() + length].decode(errors="replace"))
    return [file.parent / name for name in sorted(names) if _is_inside(file.parent / name, file.parent)]


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether it is a file of the folder. If it is none, the model is refused when it is described."""
    with suppress(PreconditionFailed):
        return bool(file_inside(path, folder))
    return False


class ONNXModel(ModelLoader):
    """Opens ONNX models with whichever flavour of ONNX Runtime is installed."""

    Config: ClassVar[type[Config]] = ONNXModelConfig
    preload = ("onnxruntime",)
    memory: ClassVar[Mapping[str, float]] = {"onnx": 100 * MEGABYTE}
    config: ONNXModelConfig

    def forecast(self) -> Weights | None:
        try:
            file = self._file()
            beside = [path for path in file.parent.glob(f"{file.name}*data") if path.is_file()]
            size = sum(path.stat().st_size for path in (file, *beside))
        except (PreconditionFailed, OSError):  # what is wrong with it, the run will tell
            return None
        return {"matrix": (size / 4, 32)}

    def fetch(self, context: FetchContext) -> ModelHandle:
        from hfopt_onnx_model.graph import look_at

        path = self._file()
        files, inputs, outputs = look_at(path)
        settings = self.config.inference_settings
        return ModelHandle(
            type="ONNXModel",
            path=path,
            files=files,
            inputs=inputs,
            outputs=outputs,
            attributes=self.config.model_attributes,
            inference_settings={} if settings is None else saved(settings),
        )

    def _file(self) -> Path:
        if self.config.model_path is None:
            raise PreconditionFailed("an ONNXModel needs model_path")
        path = Path(self.config.model_path)
        if path.is_file():
            return path
        name = self.config.onnx_file_name
        if name is None:
            found = sorted(path.glob("*.onnx"))
            if len(found) != 1:
                names = ", ".join(file.name for file in found) or "none"
                raise PreconditionFailed(
                    f"{path} must hold one .onnx file; it holds {names}", hint="set onnx_file_name"
                )
            name = found[0].name
        file_inside(path / name, path)
        return path / name

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        from hfopt_onnx_model import weights
        from hfopt_onnx_model.parts import PartsSession
        from hfopt_onnx_model.session import open_session

        wanted, threads = settings_of(handle, settings), settings.get("threads")
        providers = chosen_providers(wanted, accelerator)
        if settings.get("brief") and handle.size_bytes >= weights.HELD and [*providers] == ["CPUExecutionProvider"]:
            return PartsSession(handle.path, wanted, threads)
        return open_session(handle.path, wanted, providers, threads)

    @classmethod
    def unavailable(cls, accelerator: Accelerator) -> str | None:
        return why_unavailable(accelerator)

    @classmethod
    def data_defaults(cls, config: Any) -> dict[str, Any]:
        """The tokenizer that lies beside the model, as in a ``best/``."""
        place = Path(config.model_path or "")
        folder = place if os.path.isdir(place) else place.parent
        beside = place.is_absolute() and os.path.isfile(folder / "tokenizer_config.json")
        return {"model_name": str(folder)} if beside else {}

    def snippet(self, handle: ModelHandle) -> str:
        code = session_snippet(handle.path.name, settings_of(handle))
        if not any(path.name == "tokenizer.json" for path in handle.companions):
            return code
        return with_sentence(code, handle.inputs) or code

"""ONNXModel: an ONNX file or a folder with one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

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
from hfopt.errors import PluginError
from hfopt_onnx_model.settings import EXECUTION_MODES, GRAPH_LEVELS, InferenceSettings, SessionSettings, session_options

if TYPE_CHECKING:
    import onnxruntime


class ONNXModelConfig(Config):
    """Options of ``ONNXModel``."""

    model_path: InputPath | None = Field(None, description="An .onnx file, or a folder that holds it.")
    onnx_file_name: str | None = Field(None, description="Which file of the folder, if it holds several.")
    inference_settings: InferenceSettings | None = Field(None, description="How sessions run it.")
    model_attributes: dict[str, Any] = Field({}, description="What passes may ask: model_type, hidden_size...")


class ONNXModel(ModelLoader):
    """Opens ONNX models with whichever flavour of ONNX Runtime is installed."""

    Config: ClassVar[type[Config]] = ONNXModelConfig
    config: ONNXModelConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        from hfopt_onnx_model.graph import describe_io, model_files

        path = self._file()
        inputs, outputs = describe_io(path)
        settings = self.config.inference_settings
        return ModelHandle(
            type="ONNXModel",
            path=path,
            files=model_files(path),
            inputs=inputs,
            outputs=outputs,
            attributes=self.config.model_attributes,
            inference_settings={} if settings is None else settings.model_dump(mode="json", exclude_none=True),
        )

    def _file(self) -> Path:
        if self.config.model_path is None:
            raise PreconditionFailed("an ONNXModel needs model_path")
        path = Path(self.config.model_path)
        if path.is_file():
            return path
        if self.config.onnx_file_name is not None:
            path = path / self.config.onnx_file_name
            if not path.is_file():
                raise PreconditionFailed(f"{path}: no such file")
            return path
        found = sorted(path.glob("*.onnx"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise PreconditionFailed(f"{path} must hold one .onnx file; it holds {names}", hint="set onnx_file_name")
        return found[0]

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        from hfopt_onnx_model.session import OrtSession

        saved = InferenceSettings.model_validate_json(json.dumps(handle.inference_settings))
        session = _create(handle.path, saved, _providers(saved, accelerator), settings.get("threads"))
        return OrtSession(session)

    def snippet(self, handle: ModelHandle) -> str:
        settings = InferenceSettings.model_validate_json(json.dumps(handle.inference_settings))
        tokenizer = any(path.name == "tokenizer.json" for path in handle.companions)
        return snippet(handle.path.name, settings.session_options, [spec.name for spec in handle.inputs], tokenizer)


def _providers(settings: InferenceSettings, accelerator: Accelerator) -> list[str]:
    wanted = settings.execution_provider or accelerator.execution_provider
    return [wanted] if isinstance(wanted, str) else list(wanted)


def _create(
    path: Path, settings: InferenceSettings, providers: list[str], threads: int | None
) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise PluginError(
            "ONNX Runtime is not installed",
            hint="pip install 'hfopt-onnx-model[cpu]', or [gpu], [openvino], [directml]",
        ) from error
    if missing := [name for name in providers if name not in onnxruntime.get_available_providers()]:
        raise PluginError(f"this ONNX Runtime has no {missing[0]}: it has {onnxruntime.get_available_providers()}")
    options = session_options(settings, threads)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=providers, provider_options=settings.provider_options
        )
    except Exception as error:  # ONNX Runtime raises a dozen types without a common base
        reason = str(error).strip().splitlines()[0]
        raise PreconditionFailed(f"ONNX Runtime refuses {path.name}: {reason}") from error
    if session.get_providers()[0] != providers[0]:
        raise PreconditionFailed(f"ONNX Runtime fell back from {providers[0]} to {session.get_providers()[0]}")
    return session


def snippet(file: str, options: SessionSettings, inputs: list[str], tokenizer: bool) -> str:
    """Python that loads the model as it was tuned, and runs a sentence if there is a tokenizer."""
    lines = ["import onnxruntime", "", "options = onnxruntime.SessionOptions()"]
    if options.intra_op_num_threads is not None:
        lines.append(f"options.intra_op_num_threads = {options.intra_op_num_threads}")
    if options.inter_op_num_threads is not None:
        lines.append(f"options.inter_op_num_threads = {options.inter_op_num_threads}")
    if options.execution_mode is not None:
        lines.append(f"options.execution_mode = onnxruntime.ExecutionMode.{EXECUTION_MODES[options.execution_mode]}")
    if options.graph_optimization_level is not None:
        level = GRAPH_LEVELS[options.graph_optimization_level]
        lines.append(f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}")
    for key, entry in (options.extra_session_config or {}).items():
        lines.append(f"options.add_session_config_entry({key!r}, {entry!r})")
    lines.append(f'session = onnxruntime.InferenceSession("{file}", options, providers=["CPUExecutionProvider"])')
    if tokenizer:
        lines[0] = "import onnxruntime\nfrom transformers import AutoTokenizer"
        lines += [
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            'encoded = tokenizer("What a lovely film", return_tensors="np")',
            f"outputs = session.run(None, {{name: encoded[name] for name in {inputs}}})",
        ]
    return "\n".join(lines)

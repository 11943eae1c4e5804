"""How a session runs a model: ``inference_settings`` of an ONNXModel, and what OrtPerfTuning saves."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from hfopt import Accelerator, Config, InputPath, ModelHandle, PreconditionFailed
from hfopt.api import logs
from hfopt.api.files import read_json
from hfopt_onnx_model.providers import PROVIDERS, ProviderName

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

GRAPH_LEVELS = {0: "ORT_DISABLE_ALL", 1: "ORT_ENABLE_BASIC", 2: "ORT_ENABLE_EXTENDED", 99: "ORT_ENABLE_ALL"}
EXECUTION_MODES = {0: "ORT_SEQUENTIAL", 1: "ORT_PARALLEL"}
_FATAL_ONLY = 4


def _provider_text(value: Any) -> Any:
    """As ONNX Runtime's own Python API makes text of a provider option: ``True``, ``2``."""
    return str(value) if isinstance(value, bool | int | float) else value


def _entry_text(value: Any) -> Any:
    """Session config entries know no words for booleans: ``1``, ``0``."""
    return str(int(value) if isinstance(value, bool) else value) if isinstance(value, bool | int | float) else value


ProviderOption = Annotated[str, BeforeValidator(_provider_text)]
SessionEntry = Annotated[str, BeforeValidator(_entry_text)]


class SessionSettings(Config):
    """``session_options``: what is left out stays as ONNX Runtime has it."""

    intra_op_num_threads: int | None = Field(None, ge=0, description="Threads within an operator; 0: one per core.")
    inter_op_num_threads: int | None = Field(None, ge=0, description="Threads between operators, in parallel mode.")
    execution_mode: Literal[0, 1] | None = Field(None, description="0 sequential, 1 parallel.")
    graph_optimization_level: Literal[0, 1, 2, 99] | None = Field(None, description="0 none, 1, 2, 99 all.")
    enable_profiling: bool | None = Field(
        None, description="Write a profile of every session into a temporary folder; the log says which."
    )
    extra_session_config: dict[str, SessionEntry] | None = Field(None, description="Session config entries.")


class InferenceSettings(Config):
    """``inference_settings`` of an ONNX model."""

    execution_provider: ProviderName | tuple[ProviderName, ...] | None = Field(
        None, description="One, or several in order of priority; null: the accelerator's."
    )
    provider_options: tuple[dict[str, ProviderOption], ...] | None = Field(
        None, description="An object for each execution provider; numbers and booleans become text."
    )
    session_options: SessionSettings = Field(SessionSettings(), description="Options of the session.")
    io_bind: bool | None = Field(
        None, description="Bind inputs and outputs in every run; for timing they always are, beforehand."
    )
    tuning_op_result: tuple[dict[str, Any], ...] | None = Field(
        None, description="Results of tunable operators, for a provider that has them."
    )
    tuning_result_file: InputPath | None = Field(None, description="A JSON file with such results.")

    @field_validator("provider_options")
    @classmethod
    def _one_for_each(cls, options: Sequence[Any] | None, info: ValidationInfo) -> Sequence[Any] | None:
        names = _names(info.data.get("execution_provider")) or ("the accelerator's",)
        if options is not None and "execution_provider" in info.data and len(options) != len(names):
            raise ValueError(
                f"must have one entry for each execution provider ({', '.join(names)}); has {len(options)}"
            )
        return options

    @field_validator("tuning_op_result", "tuning_result_file")
    @classmethod
    def _has_tunable_operators(cls, value: Any, info: ValidationInfo) -> Any:
        names = _names(info.data.get("execution_provider"))
        if value is not None and names and not any(PROVIDERS[name].tunable for name in names):
            tunable = " and ".join(name for name, provider in PROVIDERS.items() if provider.tunable)
            raise ValueError(f"{', '.join(names)} has no tunable operators; {tunable} have")
        return value

    @field_validator("tuning_result_file")
    @classmethod
    def _only_one_source(cls, file: str | None, info: ValidationInfo) -> str | None:
        if file is not None and info.data.get("tuning_op_result") is not None:
            raise ValueError("tuning_op_result is given too: give one of the two")
        return file


def _names(written: str | Sequence[str] | None) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written or ())


def with_entry(model: ModelHandle, name: str, value: str) -> ModelHandle:
    """The same model, whose sessions have a session config entry unless its settings say otherwise."""
    options = model.inference_settings.get("session_options", {})
    extended = {**options, "extra_session_config": {name: value} | (options.get("extra_session_config") or {})}
    return model.with_(inference_settings={**model.inference_settings, "session_options": extended})


def settings_of(handle: ModelHandle, overrides: Mapping[str, Any] | None = None) -> InferenceSettings:
    """A model's settings.

    :param overrides: some of them, instead of the model's; other keys are left out
    """
    chosen = {key: value for key, value in (overrides or {}).items() if key in InferenceSettings.model_fields}
    return InferenceSettings.model_validate_json(json.dumps({**handle.inference_settings, **chosen}))


def saved(settings: InferenceSettings) -> dict[str, Any]:
    """Settings as a model handle holds them: what is left out is left out, and a file's content is taken in.

    :raises PreconditionFailed: the file does not hold tuning results
    """
    held: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    file = held.pop("tuning_result_file", None)
    if file is not None:
        results = read_json(Path(file))
        try:
            settings = InferenceSettings.model_validate_json(json.dumps({"tuning_op_result": results}))
        except ValueError as error:
            raise PreconditionFailed(f"{file} is not a JSON list of tuning results") from error
        held["tuning_op_result"] = [dict(result) for result in settings.tuning_op_result or ()]
    return held


def chosen_providers(settings: InferenceSettings, accelerator: Accelerator) -> dict[str, dict[str, str]]:
    """Execution providers with their options, the first one first.

    What the settings don't name is the accelerator's. OpenVINO learns the device from its options.
    """
    names = _names(settings.execution_provider) or (accelerator.execution_provider,)
    options = settings.provider_options or ({},) * len(names)
    chosen = {name: dict(each) for name, each in zip(names, options, strict=True)}
    if "OpenVINOExecutionProvider" in chosen:
        chosen["OpenVINOExecutionProvider"].setdefault("device_type", accelerator.device.upper())
    return chosen


def session_options(settings: InferenceSettings, threads: int | None, profile: str = "profile") -> SessionOptions:
    """ONNX Runtime's options; of threads within operators, the model's own setting wins over `threads`.

    :param profile: how the name of a profile begins, if one is wanted
    """
    import onnxruntime

    wanted = settings.session_options
    options = onnxruntime.SessionOptions()
    options.log_severity_level = logs.level(logs.ORT, _FATAL_ONLY)
    for name, value in _plain(wanted, threads).items():
        setattr(options, name, value)
    if wanted.execution_mode is not None:
        options.execution_mode = getattr(onnxruntime.ExecutionMode, EXECUTION_MODES[wanted.execution_mode])
    if wanted.graph_optimization_level is not None:
        level = GRAPH_LEVELS[wanted.graph_optimization_level]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if wanted.enable_profiling:
        options.profile_file_prefix = str(_profile_folder() / profile)
    for key, entry in (wanted.extra_session_config or {}).items():
        options.add_session_config_entry(key, entry)
    return options


def _plain(wanted: SessionSettings, threads: int | None) -> Mapping[str, Any]:
    intra = threads if wanted.intra_op_num_threads is None else wanted.intra_op_num_threads
    plain = {
        "intra_op_num_threads": intra,
        "inter_op_num_threads": wanted.inter_op_num_threads,
        "enable_profiling": wanted.enable_profiling,
    }
    return {name: value for name, value in plain.items() if value is not None}


def _profile_folder() -> Path:
    """Where profiles go. Not the current folder, which is the user's, nor the model's, which is an artifact."""
    folder = Path(tempfile.gettempdir()) / f"hfopt-profiles-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def session_snippet(file: str, settings: InferenceSettings) -> str:
    """Python that opens a model as its settings say, with nothing but ONNX Runtime.

    :param file: the model's, relative to where the code runs
    """
    wanted = settings.session_options
    lines = ["import onnxruntime", "", "options = onnxruntime.SessionOptions()"]
    lines += [f"options.{name} = {value!r}" for name, value in _plain(wanted, None).items()]
    if wanted.execution_mode is not None:
        lines.append(f"options.execution_mode = onnxruntime.ExecutionMode.{EXECUTION_MODES[wanted.execution_mode]}")
    if wanted.graph_optimization_level is not None:
        level = GRAPH_LEVELS[wanted.graph_optimization_level]
        lines.append(f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}")
    for key, entry in (wanted.extra_session_config or {}).items():
        lines.append(f"options.add_session_config_entry({key!r}, {entry!r})")
    chosen = chosen_providers(settings, Accelerator())
    providers = [(name, options) if options else name for name, options in chosen.items()]
    lines.append(f"session = onnxruntime.InferenceSession({file!r}, options, providers={providers!r})")
    if settings.tuning_op_result:
        lines.append(f"session.set_tuning_results({list(settings.tuning_op_result)!r})")
    return "\n".join(lines)

"""How a session runs a model: ``inference_settings`` of an ONNXModel, and what OrtPerfTuning saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hfopt import Config

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

GRAPH_LEVELS = {0: "ORT_DISABLE_ALL", 1: "ORT_ENABLE_BASIC", 2: "ORT_ENABLE_EXTENDED", 99: "ORT_ENABLE_ALL"}
EXECUTION_MODES = {0: "ORT_SEQUENTIAL", 1: "ORT_PARALLEL"}
_FATAL_ONLY = 4


class SessionSettings(Config):
    """``session_options``: what is left out stays as ONNX Runtime has it."""

    intra_op_num_threads: int | None = Field(None, ge=0, description="Threads within an operator; 0: one per core.")
    inter_op_num_threads: int | None = Field(None, ge=0, description="Threads between operators, in parallel mode.")
    execution_mode: Literal[0, 1] | None = Field(None, description="0 sequential, 1 parallel.")
    graph_optimization_level: Literal[0, 1, 2, 99] | None = Field(None, description="0 none, 1, 2, 99 all.")
    enable_profiling: bool | None = Field(None, description="Write a profile into the current folder.")
    extra_session_config: dict[str, str] | None = Field(None, description="Session config entries.")


class InferenceSettings(Config):
    """``inference_settings`` of an ONNX model."""

    execution_provider: str | tuple[str, ...] | None = Field(None, description="Instead of the accelerator's.")
    provider_options: tuple[dict[str, str], ...] | None = Field(None, description="One per execution provider.")
    session_options: SessionSettings = Field(SessionSettings(), description="Options of the session.")
    io_bind: bool | None = Field(None, description="Accepted either way: timing always binds inputs beforehand.")


def session_options(settings: InferenceSettings, threads: int | None) -> SessionOptions:
    """ONNX Runtime's options; of threads within operators, the model's own setting wins over `threads`."""
    import onnxruntime

    wanted = settings.session_options
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    for name, value in _plain(wanted, threads).items():
        setattr(options, name, value)
    if wanted.execution_mode is not None:
        options.execution_mode = getattr(onnxruntime.ExecutionMode, EXECUTION_MODES[wanted.execution_mode])
    if wanted.graph_optimization_level is not None:
        level = GRAPH_LEVELS[wanted.graph_optimization_level]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
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

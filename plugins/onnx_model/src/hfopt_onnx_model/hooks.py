"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_model_loaders() -> list[Component]:
    return [Component("ONNXModel", "hfopt_onnx_model.loader:ONNXModel", "An ONNX file, run by ONNX Runtime")]

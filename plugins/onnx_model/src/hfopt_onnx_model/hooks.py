"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_model_loaders() -> list[Component]:
    here = "hfopt_onnx_model"
    return [
        Component("ONNXModel", f"{here}.loader:ONNXModel", "An ONNX file, run by ONNX Runtime"),
        Component("CompositeModel", f"{here}.composite:CompositeModel", "Several ONNX files as one, by name"),
    ]

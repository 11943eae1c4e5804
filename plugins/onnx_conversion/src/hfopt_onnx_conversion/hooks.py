"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_passes() -> list[Component]:
    return [
        Component(
            "OnnxConversion", "hfopt_onnx_conversion.conversion:OnnxConversion", "PyTorch to ONNX, outputs compared"
        )
    ]

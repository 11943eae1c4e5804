"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_passes() -> list[Component]:
    return [
        Component(
            "OptimumConversion",
            "hfopt_optimum_passes.conversion:OptimumConversion",
            "PyTorch to ONNX by optimum-onnx, in an environment of its own",
        )
    ]

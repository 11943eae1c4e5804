"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_model_loaders() -> list[Component]:
    return [
        Component("PyTorchModel", "hfopt_hf_model_loader.loader:PyTorchModel", "A Hugging Face model in PyTorch"),
        Component(
            "OptimumModel",
            "hfopt_hf_model_loader.optimum_model:OptimumModel",
            "ONNX files exported from a Hugging Face model",
        ),
    ]

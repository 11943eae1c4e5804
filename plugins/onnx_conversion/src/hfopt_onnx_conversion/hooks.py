"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_passes() -> list[Component]:
    here = "hfopt_onnx_conversion"
    return [
        Component("OnnxConversion", f"{here}.conversion:OnnxConversion", "PyTorch to ONNX, outputs compared"),
        Component(
            "OnnxOpVersionConversion", f"{here}.opset:OnnxOpVersionConversion", "The operators of another ONNX opset"
        ),
        Component("OnnxFloatToFloat16", f"{here}.half:OnnxFloatToFloat16", "Weights and operators in half precision"),
        Component("OptimumMerging", f"{here}.merging:OptimumMerging", "Both steps of a decoder as one graph"),
        Component("DynamicToFixedShape", f"{here}.shapes:DynamicToFixedShape", "Named axes become fixed sizes"),
    ]

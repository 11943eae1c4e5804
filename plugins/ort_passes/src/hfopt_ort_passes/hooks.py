"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_passes() -> list[Component]:
    return [
        Component(
            "OrtTransformersOptimization",
            "hfopt_ort_passes.fusion:OrtTransformersOptimization",
            "Fuse transformer blocks into ONNX Runtime's own operators",
        ),
        Component(
            "OnnxQuantization",
            "hfopt_ort_passes.quantization:OnnxQuantization",
            "Quantize to 8 bits, activations dynamically or to calibrated ranges",
        ),
        Component(
            "OnnxDynamicQuantization",
            "hfopt_ort_passes.quantization:OnnxDynamicQuantization",
            "OnnxQuantization, dynamic",
        ),
        Component(
            "OnnxStaticQuantization",
            "hfopt_ort_passes.quantization:OnnxStaticQuantization",
            "OnnxQuantization, static",
        ),
        Component(
            "OrtAccuracyRecovery",
            "hfopt_ort_passes.recovery:OrtAccuracyRecovery",
            "OnnxQuantization, with the nodes in float that accuracy needs",
        ),
        Component(
            "OrtSmoothQuant",
            "hfopt_ort_passes.smoothing:OrtSmoothQuant",
            "Move large channels of activations into weights, before quantization",
        ),
        Component(
            "OnnxMatMul4Quantizer",
            "hfopt_ort_passes.matmul4:OnnxMatMul4Quantizer",
            "Quantize weights to 4 bits in blocks, one weight at a time",
        ),
        Component(
            "OrtMixedPrecision",
            "hfopt_ort_passes.mixed_precision:OrtMixedPrecision",
            "float16, with as few nodes in float32 as the outputs need",
        ),
        Component(
            "OrtPerfTuning",
            "hfopt_ort_passes.tuning:OrtPerfTuning",
            "Find the session options that run the model fastest",
        ),
    ]

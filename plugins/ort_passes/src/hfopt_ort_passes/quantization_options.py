"""Options of the 8-bit quantization passes, and which of them go together. Imports no framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from hfopt import DataName
from hfopt.api.config import OptionError, UnknownName, only
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_ort_passes.blocks import Block
from hfopt_ort_passes.user_scripts import RowsFromFunction

_NPU = "this version prepares no QNN models"

DYNAMIC_OPERATORS = ("Attention", "Conv", "EmbedLayerNormalization", "Gather", "LSTM", "MatMul", "Transpose")
"""What ONNX Runtime quantizes dynamically; a Gemm is made a MatMul and an Add beforehand."""

QOPERATOR_OPERATORS = (
    "Add",
    "ArgMax",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "EmbedLayerNormalization",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Softmax",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Where",
)
"""What ONNX Runtime quantizes statically as integer operators. Pairs (QDQ) go around any operator that a graph has."""

STATIC_OPERATORS = ("MatMul", "Gemm", "Gather")
"""What is quantized statically unless the user says: the operators that hold a transformer's weights."""

HOLDERS: Mapping[str, str] = {
    "matrix": "MatMul",
    "attention": "MatMul",
    "fused attention": "Attention",
    "head": "MatMul",
    "table": "Gather",
}
"""The operators that hold a model's weights, by kind of weight: see `hfopt.api.forecast`."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "true or false": (bool,),
    "an integer": (int,),
    "a number": (int, float),
    "a list": (list,),
    "an object": (dict,),
}

EXTRA_OPTIONS: Mapping[str, str] = {
    "ActivationRestrictedAsymmetric": "true or false",
    "AddQDQPairToWeight": "true or false",
    "CalibMovingAverage": "true or false",
    "CalibMovingAverageConstant": "a number",
    "CalibPercentile": "a number",
    "CalibTensorRangeSymmetric": "true or false",
    "DedicatedQDQPair": "true or false",
    "DefaultTensorType": "an integer",
    "MinimumRealRange": "a number",
    "OpTypesToExcludeOutputQuantization": "a list",
    "QDQDisableWeightAdjustForInt32Bias": "true or false",
    "QDQKeepRemovableActivations": "true or false",
    "QDQOpTypePerChannelSupportToAxis": "an object",
    "QuantizeBias": "true or false",
    "TensorQuantOverrides": "an object",
    "UseQDQContribOps": "true or false",
}
"""What ``extra_options`` may hold, and of which kind: those of onnxruntime's that are not options of their own."""

DYNAMIC_EXTRA_OPTIONS = ("DefaultTensorType",)
"""Those of them that dynamic quantization heeds."""

REFUSED_EXTRA_OPTIONS = {
    "BlockSize": "8-bit weights have a scale per tensor or per channel: see per_channel",
    "CalibMaxIntermediateOutputs": "calibration goes batch by batch anyway",
    "CalibStridedMinMax": "calibration goes batch by batch anyway",
    "SmoothQuant": "it needs neural-compressor, which this pass does not use",
    "SmoothQuantAlpha": "it needs neural-compressor, which this pass does not use",
    "SmoothQuantFolding": "it needs neural-compressor, which this pass does not use",
}


def _known_extra_options(options: dict[str, Any] | None) -> dict[str, Any] | None:
    for name, value in (options or {}).items():
        if name in REFUSED_EXTRA_OPTIONS:
            raise ValueError(f"{name} is not available: {REFUSED_EXTRA_OPTIONS[name]}")
        if name in QuantizationConfig.model_fields or name == NNAPI_SIGMOID:
            raise ValueError(f"{name} is an option of the pass itself: write it beside extra_options, not inside")
        if name not in EXTRA_OPTIONS:
            raise UnknownName("extra option", name, list(EXTRA_OPTIONS))
        kind = EXTRA_OPTIONS[name]
        if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "true or false"):
            raise ValueError(f"{name} must be {kind}")
    return options


NNAPI_SIGMOID = "extra.Sigmoid.nnapi"

OF_STATIC_MODE = ("calibrate_method", "quant_format", "activation_type", "ActivationSymmetric", "nnapi_sigmoid")
"""Options that say how ranges of activations are found and written."""


class QuantizationConfig(ExternalDataConfig):
    """Options of either mode."""

    model_config = ConfigDict(populate_by_name=True)

    quant_mode: Literal["dynamic", "static"] | None = Field(
        None, description="How activations are quantized; null: static if there is a data_config, else dynamic."
    )
    weight_type: Literal["QInt8", "QUInt8"] = Field("QInt8", description="Type of a quantized weight.")
    per_channel: bool = Field(True, description="One scale per output channel instead of one per tensor.")
    reduce_range: bool = Field(
        False, description="7 bits for weights: for x86 CPUs without VNNI, whose 8-bit products saturate."
    )
    exact_products: bool = Field(
        True,
        description="Where products of QInt8 weights can saturate, inference_settings get session.x64quantprecision: "
        "sessions on x86 CPUs without VNNI then widen such weights, and others take them as they are.",
    )
    quant_preprocess: bool = Field(True, description="Infer shapes and optimize the graph beforehand.")
    op_types_to_quantize: tuple[str, ...] | None = Field(
        None,
        description="Only these operators; null: all that can be, or in static mode MatMul, Gemm and Gather. "
        "In dynamic mode MatMul means every Gemm too.",
    )
    nodes_to_quantize: tuple[str, ...] | None = Field(
        None, description="Only these nodes, by name; null: all that can be."
    )
    nodes_to_exclude: tuple[str, ...] | None = Field(None, description="All but these nodes, by name.")
    blocks_to_exclude: tuple[Block, ...] | None = Field(
        None,
        description="All but the nodes of these blocks: a transformer's layers by number, -1 the last; embeddings, "
        "which is all before them; head, all behind them.",
    )
    WeightSymmetric: bool | None = Field(None, description="Zero points of weights are 0; null: for QInt8.")
    MatMulConstBOnly: bool = Field(True, description="Only MatMuls with a weight among their inputs.")
    EnableSubgraph: bool = Field(False, description="Quantize inside If and Loop too; dynamic mode only.")
    ForceQuantizeNoInputCheck: bool = Field(
        False, description="Also quantize operators that only move data, even if their input is not quantized."
    )
    extra_options: Annotated[dict[str, Any] | None, AfterValidator(_known_extra_options)] = Field(
        None, description="More of onnxruntime's extra_options, by its names."
    )

    @property
    def static(self) -> bool:
        """Whether activations get their ranges beforehand."""
        return False

    @model_validator(mode="after")
    def _goes_together(self) -> QuantizationConfig:
        if self.static and self.EnableSubgraph:
            raise OptionError(
                "EnableSubgraph", "is for dynamic mode: activations inside If and Loop are not calibrated"
            )
        if not self.static:
            _check_operators(self.op_types_to_quantize, DYNAMIC_OPERATORS, "in dynamic mode")
            for name in (name for name in self.extra_options or {} if name not in DYNAMIC_EXTRA_OPTIONS):
                raise OptionError("extra_options", f"{name} is for static mode")
        return self


class StaticConfig(QuantizationConfig, RowsFromFunction):
    """Options of static mode."""

    data_config: DataName | None = Field(None, description="Rows to calibrate with, in static mode.")
    calibrate_method: Literal["MinMax", "Entropy", "Percentile"] = Field(
        "MinMax", description="How ranges are found, in static mode."
    )
    quant_format: Literal["QDQ", "QOperator"] = Field(
        "QDQ", description="In static mode: pairs of operators around each float one, or integer operators."
    )
    activation_type: Literal["QInt8", "QUInt8"] = Field(
        "QUInt8", description="Type of a quantized activation, in static mode; QInt8 is slow on CPUs."
    )
    ActivationSymmetric: bool = Field(False, description="Zero points of activations are 0, in static mode.")
    nnapi_sigmoid: bool = Field(
        False, alias=NNAPI_SIGMOID, description="The output of a Sigmoid has the fixed range 0 to 1, for NNAPI."
    )
    batch_size: int = Field(1, ge=1, description="Of no effect: the data config has its own.")
    prepare_qnn_config: Annotated[bool, only(False, because=_NPU)] = Field(False, description="Not available.")
    qnn_extra_options: Annotated[dict[str, Any] | None, only(None, {}, because=_NPU)] = Field(
        None, description="Not available."
    )

    @property
    def static(self) -> bool:
        return True

    def ignored(self) -> dict[str, str]:
        return {**super().ignored(), **dict.fromkeys(self.written("batch_size"), "the data config has its own")}

    @model_validator(mode="after")
    def _static_goes_together(self) -> StaticConfig:
        if not self.static:
            return self
        if self.data_config is None:
            raise ValueError("static quantization needs a data_config to calibrate with; dynamic needs none")
        if (self.activation_type, self.weight_type) == ("QInt8", "QUInt8"):
            raise OptionError(
                "activation_type", "ONNX Runtime has no operators for QInt8 activations with QUInt8 weights"
            )
        if self.quant_format == "QOperator":
            if self.activation_type == "QInt8":
                raise OptionError("activation_type", "QInt8 is for quant_format QDQ; QOperator wants QUInt8")
            _check_operators(self.op_types_to_quantize, QOPERATOR_OPERATORS, "as QOperator")
        if "CalibPercentile" in (self.extra_options or {}) and self.calibrate_method != "Percentile":
            raise OptionError("extra_options", "CalibPercentile needs calibrate_method Percentile")
        return self


class OnnxQuantizationConfig(StaticConfig):
    """Options of ``OnnxQuantization``."""

    @property
    def static(self) -> bool:
        return self.quant_mode == "static" or (self.quant_mode is None and self.data_config is not None)

    def ignored(self) -> dict[str, str]:
        of_static = [] if self.static else self.written("data_config", "batch_size", *OF_STATIC_MODE)
        return {**super().ignored(), **dict.fromkeys(of_static, "it is for static mode, and quant_mode is dynamic")}

    @model_validator(mode="after")
    def _has_its_mode(self) -> OnnxQuantizationConfig:
        of_static = self.written(*OF_STATIC_MODE)
        if of_static and self.quant_mode is None and not self.static:
            raise OptionError(of_static[0], "is for static mode, which needs a data_config to calibrate with")
        return self


class OnnxStaticQuantizationConfig(StaticConfig):
    """Options of ``OnnxStaticQuantization``."""

    quant_mode: Annotated[
        Literal["dynamic", "static"] | None,
        only(None, "static", because="this pass is static: use OnnxDynamicQuantization"),
    ] = Field(None, description="static.")


class OnnxDynamicQuantizationConfig(QuantizationConfig):
    """Options of ``OnnxDynamicQuantization``."""

    quant_mode: Annotated[
        Literal["dynamic", "static"] | None,
        only(None, "dynamic", because="this pass is dynamic: use OnnxStaticQuantization"),
    ] = Field(None, description="dynamic.")


def _check_operators(written: Iterable[str] | None, known: tuple[str, ...], where: str) -> None:
    option, names = "op_types_to_quantize", tuple(written or ())
    for name in names:
        if name == "Gemm" and "Gemm" not in known:
            if "MatMul" in names:
                continue  # what is asked for is what is done
            raise OptionError(option, "in dynamic mode a Gemm is made a MatMul beforehand: write MatMul too")
        if name not in known:
            raise OptionError(option, UnknownName(f"operator that ONNX Runtime quantizes {where}", name, list(known)))

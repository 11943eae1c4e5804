"""OnnxQuantization: weights as 8-bit integers; activations quantized while the model runs, or to known ranges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hfopt import Config, DataName, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import only
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes.calibration import calibrate
from hfopt_ort_passes.quiet import quiet

if TYPE_CHECKING:
    from onnx import ModelProto

_SCRIPTS = "user scripts are not run in this version: name a data_config"
_NPU = "QNN models are not prepared in this version"

STATIC_OPERATORS = ("MatMul", "Gemm", "Gather")
"""What is quantized statically unless the user says: the operators that hold a transformer's weights."""

QUANTIZED_OPERATORS = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QLinearMatMul",
)
"""Operators that work on quantized weights; DequantizeLinear follows a quantized embedding."""


class OnnxQuantizationConfig(Config):
    """Options of ``OnnxQuantization``."""

    quant_mode: Literal["dynamic", "static"] | None = Field(
        None, description="How activations are quantized; null: static if there is a data_config, else dynamic."
    )
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
    weight_type: Literal["QInt8", "QUInt8"] = Field("QInt8", description="Type of a quantized weight.")
    per_channel: bool = Field(True, description="One scale per output channel instead of one per tensor.")
    reduce_range: bool = Field(
        False, description="7 bits for weights: for x86 CPUs without VNNI, whose 8-bit products saturate."
    )
    quant_preprocess: bool = Field(True, description="Infer shapes and optimize the graph beforehand.")
    op_types_to_quantize: tuple[str, ...] | None = Field(
        None, description="Only these operators; null: all that can be, or in static mode MatMul, Gemm and Gather."
    )
    nodes_to_quantize: tuple[str, ...] | None = Field(
        None, description="Only these nodes, by name; null: all that can be."
    )
    nodes_to_exclude: tuple[str, ...] | None = Field(None, description="All but these nodes, by name.")
    ActivationSymmetric: bool = Field(False, description="Zero points of activations are 0, in static mode.")
    WeightSymmetric: bool | None = Field(None, description="Zero points of weights are 0; null: for QInt8.")
    MatMulConstBOnly: bool = Field(True, description="Only MatMul one of whose inputs is a weight.")
    EnableSubgraph: bool = Field(False, description="Quantize inside If and Loop too, in dynamic mode.")
    ForceQuantizeNoInputCheck: bool = Field(False, description="Quantize operators whose input is not quantized.")
    extra_options: dict[str, Any] | None = Field(None, description="More of onnxruntime's extra_options.")
    batch_size: int = Field(1, ge=1, description="Of no effect: the data config has its own.")
    data_dir: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")
    dataloader_func: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")
    dataloader_func_kwargs: Annotated[dict[str, Any] | None, only(None, {}, because=_SCRIPTS)] = Field(
        None, description="Not available."
    )
    prepare_qnn_config: Annotated[bool, only(False, because=_NPU)] = Field(False, description="Not available.")
    qnn_extra_options: Annotated[dict[str, Any] | None, only(None, {}, because=_NPU)] = Field(
        None, description="Not available."
    )

    @model_validator(mode="after")
    def _has_data(self) -> OnnxQuantizationConfig:
        if self.quant_mode == "static" and self.data_config is None:
            raise ValueError("static quantization needs a data_config to calibrate with; dynamic needs none")
        return self

    @property
    def static(self) -> bool:
        """Whether activations get their ranges beforehand."""
        return self.quant_mode == "static" or (self.quant_mode is None and self.data_config is not None)


class OnnxQuantization(Pass):
    """Quantizes after the preparation that works on fused and unfused graphs alike."""

    Config: ClassVar[type[Config]] = OnnxQuantizationConfig
    accepts = frozenset({"ONNXModel"})
    config: OnnxQuantizationConfig

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        target = context.folder / "model.onnx"
        prepared = context.folder / "prepared.onnx"
        with quiet():
            source = prepare(model.path, prepared) if self.config.quant_preprocess else model.path
            if self.config.static:
                self._quantize_static(source, target, context)
            else:
                self._quantize_dynamic(source, target)
        for leftover in (*context.folder.glob("prepared.onnx*"), *context.folder.glob("calibrated.onnx*")):
            leftover.unlink()
        counts = node_counts(load(target))
        quantized = {name: counts[name] for name in QUANTIZED_OPERATORS if name in counts}
        if not quantized:
            raise PreconditionFailed(
                "no operator of the model could be quantized", hint="see op_types_to_quantize and nodes_to_quantize"
            )
        return PassResult(handle_of(target, like=model), {"quantized": quantized})

    def _quantize_dynamic(self, source: Path, target: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=_list(self.config.op_types_to_quantize),
            per_channel=self.config.per_channel,
            reduce_range=self.config.reduce_range,
            weight_type=QuantType[self.config.weight_type],
            nodes_to_quantize=_list(self.config.nodes_to_quantize),
            nodes_to_exclude=_list(self.config.nodes_to_exclude),
            extra_options=self._extra_options() | {"MatMulConstBOnly": self.config.MatMulConstBOnly},
        )

    def _quantize_static(self, source: Path, target: Path, context: PassContext) -> None:
        """As ``quantize_static`` does, but with ranges found batch by batch."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import QuantizationMode, load_model_with_shape_infer

        operators = list(self.config.op_types_to_quantize or STATIC_OPERATORS)
        data = context.data[str(self.config.data_config)]
        ranges = calibrate(
            source,
            data,
            context.folder,
            operators=operators,
            method=self.config.calibrate_method,
            progress=context.progress,
        )
        model = load_model_with_shape_infer(source)
        types = (QuantType[self.config.weight_type], QuantType[self.config.activation_type])
        nodes = (list(self.config.nodes_to_quantize or ()), self._excluded(model), operators)
        options = {"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]} | self._extra_options()
        if self.config.quant_format == "QDQ":
            scales = (self.config.per_channel, self.config.reduce_range)
            quantizer = QDQQuantizer(model, *scales, *types, ranges, *nodes, options)
        else:
            scales = (self.config.per_channel, self.config.reduce_range, QuantizationMode.QLinearOps, True)
            quantizer = ONNXQuantizer(model, *scales, *types, ranges, *nodes, options)
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))

    def _excluded(self, model: ModelProto) -> list[str]:
        """The nodes that the user excludes, and MatMuls of two activations: static mode ignores MatMulConstBOnly."""
        named = list(self.config.nodes_to_exclude or ())
        return named + products_of_activations(model) if self.config.MatMulConstBOnly else named

    def _extra_options(self) -> dict[str, Any]:
        """A dictionary of its own: the quantizers change what they are given."""
        symmetric = self.config.WeightSymmetric
        return {
            "ActivationSymmetric": self.config.ActivationSymmetric,
            "WeightSymmetric": self.config.weight_type == "QInt8" if symmetric is None else symmetric,
            "EnableSubgraph": self.config.EnableSubgraph,
            "ForceQuantizeNoInputCheck": self.config.ForceQuantizeNoInputCheck,
            **(self.config.extra_options or {}),
        }


def products_of_activations(model: ModelProto) -> list[str]:
    """The names of MatMuls none of whose inputs is a weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and weights.isdisjoint(node.input)]


def prepare(source: Path, target: Path) -> Path:
    """The graph with a type and a shape for every tensor, which the quantizer needs of fused operators too.

    :return: `target`
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_onnx_shape=True, auto_merge=True)
    return target


def _list(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)

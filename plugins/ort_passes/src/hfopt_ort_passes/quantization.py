"""OnnxQuantization: weights as 8-bit integers, activations quantized while the model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import only
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes.quiet import quiet_logging

_STATIC = "static quantization is not available in this version: write quant_mode dynamic, which needs no data"

QUANTIZED_OPERATORS = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "QAttention",
    "QEmbedLayerNormalization",
)
"""Operators that work on quantized weights; DequantizeLinear follows a quantized embedding."""


class OnnxQuantizationConfig(Config):
    """Options of ``OnnxQuantization``."""

    quant_mode: Annotated[Literal["dynamic", "static"], only("dynamic", because=_STATIC)] = Field(
        "dynamic", description="How activations are quantized."
    )
    weight_type: Literal["QInt8", "QUInt8"] = Field("QInt8", description="Type of a quantized weight.")
    per_channel: bool = Field(True, description="One scale per output channel instead of one per tensor.")
    reduce_range: bool = Field(
        False, description="7 bits for weights: for x86 CPUs without VNNI, whose 8-bit products saturate."
    )
    quant_preprocess: bool = Field(True, description="Infer shapes and optimize the graph beforehand.")
    op_types_to_quantize: tuple[str, ...] | None = Field(
        None, description="Only these operators; null: all that can be."
    )
    nodes_to_quantize: tuple[str, ...] | None = Field(
        None, description="Only these nodes, by name; null: all that can be."
    )
    nodes_to_exclude: tuple[str, ...] | None = Field(None, description="All but these nodes, by name.")
    WeightSymmetric: bool | None = Field(None, description="Zero points of weights are 0; null: for QInt8.")
    MatMulConstBOnly: bool = Field(True, description="Only MatMul whose second input is a weight.")
    EnableSubgraph: bool = Field(False, description="Quantize inside If and Loop too.")
    ForceQuantizeNoInputCheck: bool = Field(False, description="Quantize operators whose input is not quantized.")
    extra_options: dict[str, Any] | None = Field(None, description="More of onnxruntime's extra_options.")
    data_config: Annotated[str | None, only(None, because=_STATIC)] = Field(None, description="Not available.")
    data_dir: Annotated[str | None, only(None, because=_STATIC)] = Field(None, description="Not available.")
    dataloader_func: Annotated[str | None, only(None, because=_STATIC)] = Field(None, description="Not available.")
    dataloader_func_kwargs: Annotated[dict[str, Any] | None, only(None, {}, because=_STATIC)] = Field(
        None, description="Not available."
    )
    batch_size: int = Field(1, ge=1, description="Of no effect in dynamic mode.")
    calibrate_method: Literal["MinMax", "Entropy", "Percentile"] = Field(
        "MinMax", description="Of no effect in dynamic mode."
    )
    quant_format: Literal["QDQ", "QOperator"] = Field("QDQ", description="Of no effect in dynamic mode.")
    activation_type: Literal["QInt8", "QUInt8"] = Field(
        "QUInt8", description="Of no effect in dynamic mode: always QUInt8."
    )
    ActivationSymmetric: bool = Field(False, description="Of no effect in dynamic mode.")
    prepare_qnn_config: Annotated[bool, only(False, because=_STATIC)] = Field(False, description="Not available.")
    qnn_extra_options: Annotated[dict[str, Any] | None, only(None, {}, because=_STATIC)] = Field(
        None, description="Not available."
    )


class OnnxQuantization(Pass):
    """Quantizes dynamically, after the preparation that works on fused and unfused graphs alike."""

    Config: ClassVar[type[Config]] = OnnxQuantizationConfig
    accepts = frozenset({"ONNXModel"})
    config: OnnxQuantizationConfig

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        target = context.folder / "model.onnx"
        prepared = context.folder / "prepared.onnx"
        with quiet_logging():
            source = prepare(model.path, prepared) if self.config.quant_preprocess else model.path
            self._quantize(source, target)
        for leftover in context.folder.glob("prepared.onnx*"):
            leftover.unlink()
        counts = node_counts(load(target))
        quantized = {name: counts[name] for name in QUANTIZED_OPERATORS if name in counts}
        if not quantized:
            raise PreconditionFailed(
                "no operator of the model could be quantized", hint="see op_types_to_quantize and nodes_to_quantize"
            )
        return PassResult(handle_of(target, like=model), {"quantized": quantized})

    def _quantize(self, source: Path, target: Path) -> None:
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
            extra_options=self._extra_options(),
        )

    def _extra_options(self) -> dict[str, Any]:
        """A dictionary of its own: quantize_dynamic changes what it is given."""
        symmetric = self.config.WeightSymmetric
        return {
            "WeightSymmetric": self.config.weight_type == "QInt8" if symmetric is None else symmetric,
            "MatMulConstBOnly": self.config.MatMulConstBOnly,
            "EnableSubgraph": self.config.EnableSubgraph,
            "ForceQuantizeNoInputCheck": self.config.ForceQuantizeNoInputCheck,
            **(self.config.extra_options or {}),
        }


def prepare(source: Path, target: Path) -> Path:
    """The graph with a type and a shape for every tensor, which the quantizer needs of fused operators too.

    :return: `target`
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_onnx_shape=True, auto_merge=True)
    return target


def _list(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)

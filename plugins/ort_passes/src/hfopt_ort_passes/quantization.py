"""OnnxQuantization: weights as 8-bit integers; activations quantized while the model runs, or to known ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api import text as wording
from hfopt.api.forecast import MEGABYTE, Weights, with_bits
from hfopt.api.text import did_you_mean
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import SMALL, handle_of, node_counts, outline, save
from hfopt_onnx_model.precision import tolerance_of
from hfopt_ort_passes.blocks import apart, nodes_of
from hfopt_ort_passes.calibration import calibrate
from hfopt_ort_passes.quantization_options import (
    DYNAMIC_OPERATORS,
    HOLDERS,
    NNAPI_SIGMOID,
    STATIC_OPERATORS,
    OnnxDynamicQuantizationConfig,
    OnnxQuantizationConfig,
    OnnxStaticQuantizationConfig,
    QuantizationConfig,
    StaticConfig,
)
from hfopt_ort_passes.quiet import quiet, scratch, sentences
from hfopt_ort_passes.saturation import pairs_too_large, saturates, saturation_warning, with_exact_products
from hfopt_ort_passes.trial import try_out

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnxruntime.quantization.calibrate import TensorsData

QNN = "QNNExecutionProvider"

BESIDE = ExternalDataConfig(save_as_external_data=True)
"""Of graphs that are made on the way."""

QUANTIZED_OPERATORS = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QLinearAdd",
    "QLinearConv",
    "QLinearMatMul",
)
"""Operators that work on quantized weights; DequantizeLinear follows a quantized embedding."""


class OnnxQuantization(Pass):
    """Quantizes after the preparation that works on fused and unfused graphs alike, and tries the result."""

    Config: ClassVar[type[Config]] = OnnxQuantizationConfig
    accepts = frozenset({"ONNXModel"})
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "quant_mode": ("dynamic", "static"),
        "per_channel": (True, False),
        "weight_type": ("QInt8", "QUInt8"),
        "activation_type": ("QUInt8", "QInt8"),
    }
    memory: ClassVar[Mapping[str, float]] = {"onnx": 100 * MEGABYTE, "onnxruntime": 60 * MEGABYTE, "copies": 3}
    config: QuantizationConfig

    def forecast(self, before: Weights) -> Weights:
        operators = self.config.op_types_to_quantize or (STATIC_OPERATORS if self.config.static else DYNAMIC_OPERATORS)
        wider = {
            kind for kind, (_, bits) in before.items() if bits >= 16
        }  # of 8 or 4 bits with scales it leaves what is
        quantized = {kind for kind, operator in HOLDERS.items() if operator in operators} & wider
        return with_bits(apart(before, self.config.blocks_to_exclude or ()), 8, quantized)

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        if not self.config.static and context.accelerator.execution_provider == QNN:
            raise PreconditionFailed(f"{QNN} runs models that were quantized statically", hint="name a data_config")
        target = context.folder / f"{context.name}.onnx"
        outline(model.path)
        hint = None if self.config.quant_preprocess else "leave quant_preprocess on: it gives every tensor a type"
        with quiet(), scratch(context.folder) as folder, sentences("ONNX Runtime can't quantize this model", hint=hint):
            source = self._prepared(model, folder)
            before = outline(source)
            self._check_names(before.graph, model)
            already = _quantized(node_counts(before))
            ranges = self._calibrate(source, folder, context)
            graph = quantize(source, self.config, ranges)
            counts = node_counts(graph)
            quantized = _quantized(counts)
            if not quantized:
                raise PreconditionFailed(
                    "no operator of the model could be quantized", hint="see op_types_to_quantize and nodes_to_quantize"
                )
            tolerance, large_pairs = tolerance_of(graph), self._pairs_too_large(graph)
            save(graph, target, self.config)
            del graph
        result = self._with_settings(handle_of(target, like=model), large_pairs)
        try_out(result, model, context)
        report = {"summary": wording.counts(quantized), "quantized": quantized}
        report |= {"pairs_too_large": large_pairs} if large_pairs else {}
        told = PassResult(result, report, tolerance)
        for warning in self._warnings(already, quantized, counts.get("Attention", 0), large_pairs):
            told = told.with_report({}, warning)
        return told

    def _warnings(
        self, already: Mapping[str, int], quantized: Mapping[str, int], fused: int, large_pairs: Mapping[str, float]
    ) -> Iterator[str]:
        """What the user should know of the model.

        :param already: quantized operators of the model before, as `quantized` has them of the new one
        :param fused: how many Attention stay as they are
        :param large_pairs: see `pairs_too_large`
        """
        if already:
            left = "nothing was left to quantize" if quantized == already else "what was left is quantized now"
            yield f"the model was quantized already: {left}"
        elif self.config.static and fused:
            yield (
                f"the weights of {fused} fused Attention stay in float32, as static mode has no such operator: "
                "quantize dynamically, or fuse with enable_attention false in optimization_options"
            )
        if large_pairs and not self.config.exact_products and saturates():
            yield saturation_warning(large_pairs)

    def _prepared(self, model: ModelHandle, folder: Path) -> Path:
        """The graph that is quantized."""
        if self.config.quant_preprocess:
            return prepare(model.path, folder / "prepared.onnx")
        return copy(model.path, folder / "source.onnx")

    def _with_settings(self, made: ModelHandle, large_pairs: Mapping[str, float]) -> ModelHandle:
        """The model with the settings that it needs."""
        return with_exact_products(made) if large_pairs and self.config.exact_products else made

    def _pairs_too_large(self, graph: ModelProto) -> dict[str, float]:
        """Of weights that are multiplied by unsigned activations."""
        signed = isinstance(self.config, StaticConfig) and self.config.static and self.config.activation_type == "QInt8"
        return {} if signed else pairs_too_large(graph)

    def _calibrate(self, source: Path, folder: Path, context: PassContext) -> TensorsData | None:
        config = self.config
        if not isinstance(config, StaticConfig) or not config.static:
            return None
        return calibrate(
            source,
            context.data[str(config.data_config)],
            folder,
            operators=config.op_types_to_quantize or STATIC_OPERATORS,
            method=config.calibrate_method,
            extra_options=config.extra_options or {},
            progress=context.progress,
        )

    def _check_names(self, graph: GraphProto, model: ModelHandle) -> None:
        """Refuse nodes and operators that the graph does not have: the quantizers pass over them in silence."""
        names = {node.name for node in graph.node}
        for option in ("nodes_to_quantize", "nodes_to_exclude"):
            for name in getattr(self.config, option) or ():
                if name not in names:
                    raise _no_node(option, name, names, model)
        operators = {node.op_type for node in graph.node}
        for name in self.config.op_types_to_quantize or ():
            if self.config.static and name not in operators | set(STATIC_OPERATORS):
                hint = did_you_mean(name, operators)
                raise PreconditionFailed(
                    f"op_types_to_quantize: the graph has no {name}; it has {', '.join(sorted(operators))}",
                    hint=hint,
                )


def _quantized(counts: Mapping[str, int]) -> dict[str, int]:
    """Those of a graph's operators that work on quantized weights."""
    return {name: counts[name] for name in QUANTIZED_OPERATORS if name in counts}


def _without(*names: str) -> dict[str, tuple[Any, ...]]:
    return {name: values for name, values in OnnxQuantization.searchable.items() if name not in names}


class OnnxStaticQuantization(OnnxQuantization):
    """`OnnxQuantization` in static mode."""

    Config: ClassVar[type[Config]] = OnnxStaticQuantizationConfig
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = _without("quant_mode")


class OnnxDynamicQuantization(OnnxQuantization):
    """`OnnxQuantization` in dynamic mode."""

    Config: ClassVar[type[Config]] = OnnxDynamicQuantizationConfig
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = _without("quant_mode", "activation_type")


def prepare(source: Path, target: Path) -> Path:
    """The graph with a type and a shape for every tensor, which the quantizer needs of fused operators too.

    ONNX Runtime's symbolic inference knows those operators. Where it fails itself (an assert, at a Reshape to a shape
    of unknown length as in SigLIP), ONNX's own inference takes its place, which knows the standard's operators alone.

    :return: `target`; its weights are beside it
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with suppress(AssertionError, TypeError), chdir(source.parent):  # what it can't infer goes the way below
        return _prepared(source, target)
    write = partial(
        quant_pre_process,
        str(source),
        str(target),
        auto_merge=True,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        external_data_location=f"{target.name}.data",
    )
    try:
        write(skip_onnx_shape=True)
    except (AssertionError, TypeError):
        write(skip_symbolic_shape=True)
    return target


def _prepared(source: Path, target: Path) -> Path:
    """As ``quant_pre_process`` does, but shapes are inferred without weights: it copies a model for each step.

    Weights stay beside the graph: what reads it again maps them, and infers shapes without them.

    :return: `target`
    """
    import onnxruntime
    from onnxruntime.transformers.shape_infer_helper import SymbolicShapeInference  # in its package imports PyTorch

    typed = target.with_name("typed.onnx")
    save(SymbolicShapeInference.infer_shapes(outline(source), auto_merge=True), typed, BESIDE, source=source.parent)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    entries = {
        "disable_prepacking": "1",
        "optimized_model_external_initializers_file_name": f"{target.name}.data",
        "optimized_model_external_initializers_min_size_in_bytes": str(SMALL),
    }
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(str(typed), options, providers=["CPUExecutionProvider"])
    return target


def copy(source: Path, target: Path) -> Path:
    """The graph as it is, where ONNX Runtime may write files next to it.

    :return: `target`
    """
    save(outline(source), target, BESIDE, source=source.parent)
    return target


def quantize(source: Path, config: QuantizationConfig, ranges: TensorsData | None) -> ModelProto:
    """As onnxruntime's ``quantize_dynamic`` and ``quantize_static`` do, apart from calibrating and writing.

    :param ranges: of activations, in static mode
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import (
        QuantizationMode,
        load_model_with_shape_infer,
        update_opset_version,
    )

    weight_type = QuantType[config.weight_type]
    model = load_model_with_shape_infer(source)
    named = (_products(model, config.nodes_to_quantize or ()), _excluded(model, config))
    widths = (config.per_channel, config.reduce_range)
    options = _extra_options(config)
    if not isinstance(config, StaticConfig) or not config.static:
        model = update_opset_version(model, weight_type)
        nodes = (*named, list(config.op_types_to_quantize or DYNAMIC_OPERATORS))
        types = (weight_type, QuantType.QUInt8)
        quantizer = ONNXQuantizer(model, *widths, QuantizationMode.IntegerOps, False, *types, None, *nodes, options)
    else:
        types = (weight_type, QuantType[config.activation_type])
        model = update_opset_version(model, *types)
        nodes = (*named, list(config.op_types_to_quantize or STATIC_OPERATORS))
        if config.quant_format == "QDQ":
            quantizer = QDQQuantizer(model, *widths, *types, ranges, *nodes, options)
        else:
            mode = QuantizationMode.QLinearOps
            quantizer = ONNXQuantizer(model, *widths, mode, True, *types, ranges, *nodes, options)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def _excluded(model: ModelProto, config: QuantizationConfig) -> list[str]:
    """The nodes that the user excludes, and MatMuls of two activations: static mode ignores MatMulConstBOnly."""
    named = _products(model, (*(config.nodes_to_exclude or ()), *nodes_of(model.graph, config.blocks_to_exclude or ())))
    return named + products_of_activations(model) if config.static and config.MatMulConstBOnly else named


def _products(model: ModelProto, names: Iterable[str]) -> list[str]:
    """The names, and of each Gemm the MatMul that dynamic quantization makes of it beforehand."""
    products = {node.name: [node.name, f"{node.name}_MatMul"] for node in model.graph.node if node.op_type == "Gemm"}
    return [each for name in names for each in products.get(name, [name])]


def _extra_options(config: QuantizationConfig) -> dict[str, Any]:
    """A dictionary of its own: the quantizers change what they are given."""
    from onnx import TensorProto

    symmetric = config.WeightSymmetric
    options: dict[str, Any] = {
        "WeightSymmetric": config.weight_type == "QInt8" if symmetric is None else symmetric,
        "MatMulConstBOnly": config.MatMulConstBOnly,
        "EnableSubgraph": config.EnableSubgraph,
        "ForceQuantizeNoInputCheck": config.ForceQuantizeNoInputCheck,
    }
    if isinstance(config, StaticConfig) and config.static:
        options["ActivationSymmetric"] = config.ActivationSymmetric
        options["OpTypesToExcludeOutputQuantization"] = ["MatMul", "Gemm"]
        options[NNAPI_SIGMOID] = config.nnapi_sigmoid
    else:
        options["DefaultTensorType"] = TensorProto.FLOAT  # of what an operator returns that no inference knows
    return options | (config.extra_options or {})


def products_of_activations(model: ModelProto) -> list[str]:
    """The names of MatMuls none of whose inputs is a weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and weights.isdisjoint(node.input)]


def _no_node(option: str, name: str, names: set[str], model: ModelHandle) -> PreconditionFailed:
    if any(node.name == name for node in outline(model.path).graph.node):
        return PreconditionFailed(
            f"{option}: the preparation folds or replaces the node {name!r}", hint="set quant_preprocess to false"
        )
    hint = did_you_mean(name, names)
    return PreconditionFailed(f"{option}: the graph has no node {name!r}", hint=hint)

"""OrtTransformersOptimization: the blocks of a transformer as ONNX Runtime's own fused operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hfopt import Accelerator, Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.parity import HALF_RELATIVE, RELATIVE
from hfopt.plugins import nearest
from hfopt.wording import counts
from hfopt_onnx_model.graph import handle_of, load, save
from hfopt_onnx_model.weights import computes_in_half
from hfopt_ort_passes.attention import FUSED_ATTENTION, group_queries, why_unfused
from hfopt_ort_passes.fusion_options import ORT_MODEL_TYPES, OrtTransformersOptimizationConfig
from hfopt_ort_passes.quiet import quiet, scratch, sentences

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.onnx_model import OnnxModel

MICROSOFT = "com.microsoft"

STANDARD_FUSED = frozenset({"Gelu", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
"""Fused operators that are in ONNX's own domain; all others are in Microsoft's."""

SIZES = {
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
}
"""Options of this pass, and what a Hugging Face config calls them."""

GPU_PROVIDERS: Mapping[str, str] = {
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "MIGraphXExecutionProvider": "migraphx",
    "TensorrtExecutionProvider": "tensorrt",
}
"""What onnxruntime's optimizer calls the execution providers that it can optimize for."""


class OrtTransformersOptimization(Pass):
    """Runs ONNX Runtime's transformer optimizer and reports how many operators it fused."""

    Config: ClassVar[type[Config]] = OrtTransformersOptimizationConfig
    accepts = frozenset({"ONNXModel"})
    keeps_outputs = True
    config: OrtTransformersOptimizationConfig

    def requires(self, model: ModelHandle) -> None:
        self._optimizer(model)
        for option, attribute in SIZES.items():
            written, own = getattr(self.config, option), model.attributes.get(attribute)
            if written and own and written != own:  # the fused operators would compute something else, without a word
                raise PreconditionFailed(
                    f"{option}: {written} is written, and the model's {attribute} is {own}", hint=f"leave {option} out"
                )

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        target = context.folder / "model.onnx"
        provider = self._provider(context.accelerator)
        before = load(model.path, weights=False).graph
        with quiet(), scratch(context.folder), sentences("ONNX Runtime can't optimize this model"):
            optimized = self._optimize(model, provider)
            if self.config.use_gqa:
                group_queries(optimized, self._size("num_key_value_heads", model))
            fused = _more(optimized.model.graph, before)
            if self.config.float16:
                self._halve(optimized, before)
            if self.config.input_int32:
                optimized.change_graph_inputs_to_int32()
            optimized.topological_sort(is_deterministic=True)
            _import_microsoft(optimized.model)
            save(optimized.model, target, self.config)
        report: dict[str, Any] = {"summary": f"fused {counts(fused)}", "fused": fused}
        if warning := self._warning(fused, before):
            report["warning"] = warning
        return PassResult(handle_of(target, like=model), report, self._tolerance(model))

    def _tolerance(self, model: ModelHandle) -> float:
        """How far outputs may be from those before: what the user asks for may round."""
        rounds = self.config.float16 or self.config.optimization_options.get("enable_gelu_approximation")
        return HALF_RELATIVE if rounds or computes_in_half(load(model.path, weights=False)) else RELATIVE

    def _provider(self, accelerator: Accelerator) -> str | None:
        """The GPU to optimize for, by onnxruntime's name; None: the CPU."""
        gpu = accelerator.device == "gpu"
        if self.config.use_gpu and not gpu:
            raise PreconditionFailed(
                f"use_gpu: the accelerator of this run is {accelerator.device}", hint="leave use_gpu out"
            )
        if gpu and self.config.use_gqa and not self.config.float16:
            raise PreconditionFailed("use_gqa: on a GPU GroupQueryAttention is float16 alone", hint="set float16")
        if gpu and not self.config.use_gpu and (self.config.opt_level or 0) > 1:
            raise PreconditionFailed(
                f"opt_level {self.config.opt_level} writes operators of the CPU alone, and the accelerator is a GPU",
                hint="set use_gpu",
            )
        if not self.config.use_gpu:
            return None
        if accelerator.execution_provider not in GPU_PROVIDERS:
            raise PreconditionFailed(
                f"use_gpu: ONNX Runtime's optimizer does not know {accelerator.execution_provider}; "
                f"it knows {', '.join(GPU_PROVIDERS)}"
            )
        return GPU_PROVIDERS[accelerator.execution_provider]

    def _optimize(self, model: ModelHandle, provider: str | None) -> OnnxModel:
        from onnxruntime.transformers.optimizer import optimize_model

        optimizer = self._optimizer(model)
        return optimize_model(
            str(model.path),
            model_type=optimizer,
            num_heads=self._size("num_heads", model),
            hidden_size=self._size("hidden_size", model),
            optimization_options=self._fusion_options(optimizer),
            opt_level=self.config.opt_level or 0,
            use_gpu=provider is not None,
            only_onnxruntime=self.config.only_onnxruntime,
            provider=provider,
        )

    def _size(self, option: str, model: ModelHandle) -> int:
        """What the user wrote, else what the model's config says, else 0."""
        return int(getattr(self.config, option) or model.attributes.get(SIZES[option]) or 0)

    def _fusion_options(self, optimizer: str) -> FusionOptions:
        from onnxruntime.transformers.fusion_options import FusionOptions

        options = FusionOptions(optimizer)
        # Its own defaults turn a mask into a length per row, which is wrong for rows that are padded on the left, and
        # fuse the embeddings, whose quantized form loses accuracy (docs/decisions/0004).
        options.use_raw_attention_mask(True)
        options.enable_embed_layer_norm = False
        for name, value in self.config.optimization_options.items():
            setattr(options, name, value)
        return options

    def _optimizer(self, model: ModelHandle) -> str:
        if self.config.model_type is not None:
            return ORT_MODEL_TYPES.get(self.config.model_type, self.config.model_type)
        own = str(model.attributes.get("model_type"))
        if own in ORT_MODEL_TYPES:
            return ORT_MODEL_TYPES[own]
        if self.config.only_onnxruntime:
            return "bert"  # none of its fusions runs
        known = ", ".join(sorted(ORT_MODEL_TYPES))
        raise PreconditionFailed(
            f"no fusions are known for model type {own!r}; known: {known}",
            hint="set model_type to ONNX Runtime's name of a like architecture, or leave this pass out",
        )

    def _halve(self, optimized: OnnxModel, before: GraphProto) -> None:
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

        graph = optimized.model.graph
        operators = {node.op_type for node in graph.node}
        _check("force_fp32_ops", "operator", self.config.force_fp32_ops, operators, {n.op_type for n in before.node})
        _check("force_fp16_inputs", "operator", self.config.force_fp16_inputs, operators, set())
        names = {node.name for node in graph.node}
        _check("force_fp32_nodes", "node", self.config.force_fp32_nodes, names, {node.name for node in before.node})
        blocked = [*DEFAULT_OP_BLOCK_LIST, *(self.config.force_fp32_ops or ())]
        optimized.convert_float_to_float16(op_block_list=blocked, **self.config.fp16())

    def _warning(self, fused: Mapping[str, int], before: GraphProto) -> str | None:
        """What the user should know of a fusion that did nothing, or not all."""
        has_attention = FUSED_ATTENTION & (fused.keys() | {node.op_type for node in before.node})
        wanted = self.config.optimization_options.get("enable_attention", True) and not self.config.only_onnxruntime
        reason = why_unfused(before) if wanted and not has_attention else None
        if fused:
            return reason and f"no attention was fused: {reason}"
        if reason:
            return f"nothing was fused: {reason}"
        if self.config.only_onnxruntime:
            return f"nothing was fused: ONNX Runtime alone fuses little at opt_level {self.config.opt_level}"
        return "nothing was fused: the graph has none of the patterns that this optimizer knows"


def _import_microsoft(model: ModelProto) -> None:
    """Declare the domain of fused operators, without which shape inference and checkers refuse a model."""
    used = any(node.domain == MICROSOFT for node in model.graph.node)
    if used and all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.add(domain=MICROSOFT, version=1)


def _more(after: GraphProto, before: GraphProto) -> dict[str, int]:
    """How many fused operators a graph has more than before, most first."""

    def count(graph: GraphProto) -> Counter[str]:
        return Counter(n.op_type for n in graph.node if n.domain == MICROSOFT or n.op_type in STANDARD_FUSED)

    return dict((count(after) - count(before)).most_common())


def _check(option: str, kind: str, written: Iterable[str] | None, there: set[str], before: set[str]) -> None:
    """Refuse names that the fused graph does not have, over which ONNX Runtime passes in silence."""
    for name in written or ():
        if name in there:
            continue
        if name in before:
            raise PreconditionFailed(
                f"{option}: the fusions replaced the {kind} {name!r}: name what is there after them"
            )
        near = nearest(name, there)
        raise PreconditionFailed(f"{option}: the graph has no {kind} {name!r}", hint=near and f"did you mean {near!r}?")

"""OrtTransformersOptimization: the blocks of a transformer as ONNX Runtime's own fused operators."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import chdir
from typing import TYPE_CHECKING, Any, ClassVar

from hfopt import Accelerator, Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.forecast import MEGABYTE, Weights, with_bits
from hfopt.api.parity import HALF_RELATIVE
from hfopt.api.text import counts, did_you_mean
from hfopt_onnx_model.graph import handle_of, outline, save
from hfopt_onnx_model.precision import check_takes_half, index_arithmetic, tolerance_of
from hfopt_onnx_model.settings import with_entry
from hfopt_onnx_model.weights import read_in
from hfopt_ort_passes.attention import FUSED_ATTENTION, why_unfused
from hfopt_ort_passes.fusion_options import ORT_MODEL_TYPES, OrtTransformersOptimizationConfig
from hfopt_ort_passes.grouped import group_queries, is_wanted
from hfopt_ort_passes.one_token import narrow
from hfopt_ort_passes.quiet import quiet, scratch, sentences

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.onnx_model import OnnxModel

MICROSOFT = "com.microsoft"

STANDARD_FUSED = frozenset({"Gelu", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
"""Fused operators that are in ONNX's own domain; all others are in Microsoft's."""

SIZES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "dim", "d_model", "n_embd"),
    "num_heads": ("num_attention_heads", "n_heads", "encoder_attention_heads", "n_head", "num_heads"),
    "num_key_value_heads": ("num_key_value_heads",),
}
"""Options of this pass, and what Hugging Face configs call them."""

GPU_PROVIDERS: Mapping[str, str] = {
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "MIGraphXExecutionProvider": "migraphx",
    "TensorrtExecutionProvider": "tensorrt",
}
"""What onnxruntime's optimizer calls the execution providers that it can optimize for."""

LEFT_OUT = "optimization.disable_specified_optimizers"
"""The session config entry that keeps ONNX Runtime from fusing, as it opens a model, what was not to be fused."""
FUSED_AS_OPENED: Mapping[str, str] = {
    "enable_bias_gelu": "BiasGeluFusion",
    "enable_skip_layer_norm": "SkipLayerNormFusion",
}
"""Options of fusions that ONNX Runtime makes then, by its names."""

ASKS_FOR_MORE = ("float16", "input_int32", "use_gqa")
"""Options without which a model of unknown type is left as it is."""


class OrtTransformersOptimization(Pass):
    """Runs ONNX Runtime's transformer optimizer and reports how many operators it fused."""

    Config: ClassVar[type[Config]] = OrtTransformersOptimizationConfig
    accepts = frozenset({"ONNXModel"})
    keeps_outputs = True
    memory: ClassVar[Mapping[str, float]] = {
        "onnx": 100 * MEGABYTE,
        "onnxruntime": 60 * MEGABYTE,
        "onnxruntime.transformers": 90 * MEGABYTE,
        "copies": 2,
    }
    config: OrtTransformersOptimizationConfig

    def requires(self, model: ModelHandle) -> None:
        asked = [name for name in ASKS_FOR_MORE if getattr(self.config, name)]
        if self._optimizer(model) is None and asked:
            raise PreconditionFailed(
                f"{', '.join(asked)}: {_unknown(model)}",
                hint="set model_type to ONNX Runtime's name of a similar architecture, or leave this out",
            )
        for option in SIZES:
            written, (attribute, own) = getattr(self.config, option), _own_size(option, model)
            if written and own and written != own:  # the fused operators would compute something else, without a word
                raise PreconditionFailed(
                    f"{option}: {written} is written, and the model's {attribute} is {own}", hint=f"leave {option} out"
                )
        heads, width = self._size("num_heads", model), self._size("hidden_size", model)
        if self.config.hidden_size and not heads:
            raise PreconditionFailed("hidden_size: the model does not say how many heads it has", hint="set num_heads")
        if (self.config.num_heads or self.config.hidden_size) and width % heads:
            raise PreconditionFailed(f"num_heads: hidden states of {width} can't be divided among {heads} heads")

    def forecast(self, before: Weights) -> Weights:
        weights = with_bits(before, 16) if self.config.float16 else before
        options = self.config.optimization_options
        if options.enable_attention is False or options.use_multi_head_attention:  # which has queries, keys and values
            return weights
        return {"fused attention" if kind == "attention" else kind: each for kind, each in weights.items()}

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        provider, optimizer = self._provider(context.accelerator), self._optimizer(model)
        if optimizer is None:
            return PassResult(model, {"summary": "left as it is", "warning": _unknown(model), "fused": {}})
        target = context.folder / f"{context.name}.onnx"
        source = outline(model.path)
        before = source.graph
        with quiet(), scratch(context.folder), sentences("ONNX Runtime can't optimize this model"):
            with chdir(model.path.parent):  # weights are read from there, if they are looked at
                optimized = self._optimize(model, optimizer, provider)
                if is_wanted(self.config, context.accelerator):
                    group_queries(optimized, self._size("num_heads", model), self.config)
            fused = _more(optimized.model.graph, before)
            _import_microsoft(optimized.model)
            narrowed = 0
            if self.config.narrow_to_one_token and not self.config.only_onnxruntime:
                optimized.topological_sort(is_deterministic=True)
                narrowed = narrow(optimized.model)
            if self.config.float16:
                read_in(optimized.model, model.path.parent)
                self._halve(optimized, before)
            if self.config.input_int32:
                optimized.change_graph_inputs_to_int32()
            optimized.topological_sort(is_deterministic=True)
            save(optimized.model, target, self.config, source=model.path.parent)
            del optimized
            gc.collect()  # copies of the model, in cycles
        report: dict[str, Any] = {"summary": f"fused {counts(fused)}", "fused": fused}
        if narrowed:
            report["summary"] += f"; {narrowed} MatMul for one token alone"
            report["narrowed"] = narrowed
        if warning := self._warning(fused, before, model):
            report["warning"] = warning
        made = handle_of(target, like=model)
        options = self.config.optimization_options
        if left_out := [name for option, name in FUSED_AS_OPENED.items() if getattr(options, option) is False]:
            made = with_entry(made, LEFT_OUT, ";".join(left_out))
        return PassResult(made, report, self._tolerance(source))

    def _tolerance(self, source: ModelProto) -> float:
        """How far outputs may be from those before: what the user asks for may round."""
        rounds = self.config.float16 or self.config.optimization_options.enable_gelu_approximation
        return max(HALF_RELATIVE if rounds else 0, tolerance_of(source))

    def _provider(self, accelerator: Accelerator) -> str | None:
        """The GPU to optimize for, by onnxruntime's name; None: the CPU."""
        gpu = accelerator.device == "gpu"
        if self.config.use_gpu and not gpu:
            raise PreconditionFailed(
                f"use_gpu: the accelerator of this run is {accelerator.device}", hint="leave use_gpu out"
            )
        if gpu and self.config.use_gqa and not self.config.float16:
            raise PreconditionFailed("use_gqa: on a GPU GroupQueryAttention is float16 only", hint="set float16")
        if gpu and not self.config.use_gpu and (self.config.opt_level or 0) > 1:
            raise PreconditionFailed(
                f"opt_level {self.config.opt_level} writes operators for CPUs only, and the accelerator is a GPU",
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

    def _optimize(self, model: ModelHandle, optimizer: str, provider: str | None) -> OnnxModel:
        from onnxruntime.transformers.optimizer import optimize_model

        heads, width = self._size("num_heads", model), self._size("hidden_size", model)
        usable = heads and not width % heads  # T5's heads together may be of another width than its hidden states
        return optimize_model(
            str(model.path) if self.config.opt_level else outline(model.path),
            model_type=optimizer,
            num_heads=heads if usable else 0,
            hidden_size=width if usable else 0,
            optimization_options=self._fusion_options(optimizer),
            opt_level=self.config.opt_level or 0,
            use_gpu=provider is not None,
            only_onnxruntime=self.config.only_onnxruntime,
            provider=provider,
        )

    def _size(self, option: str, model: ModelHandle) -> int:
        """What the user wrote, else what the model's config says, else 0: the graph tells."""
        return int(getattr(self.config, option) or _own_size(option, model)[1])

    def _fusion_options(self, optimizer: str) -> FusionOptions:
        from onnxruntime.transformers.fusion_options import AttentionOpType, FusionOptions

        options = FusionOptions(optimizer)
        # Its own defaults turn a mask into a length per row, which is wrong for rows that are padded on the left, and
        # fuse the embeddings, whose quantized form loses accuracy (docs/decisions/0004).
        options.use_raw_attention_mask(True)
        options.enable_embed_layer_norm = False
        for name, value in self.config.optimization_options.model_dump(exclude_none=True).items():
            setattr(options, name, AttentionOpType(value) if name == "attention_op_type" else value)
        return options

    def _optimizer(self, model: ModelHandle) -> str | None:
        """ONNX Runtime's optimizer for such models; None: there is none."""
        if self.config.model_type is not None:
            return ORT_MODEL_TYPES.get(self.config.model_type, self.config.model_type)
        own = model.attributes.get("model_type")
        if isinstance(own, str) and own in ORT_MODEL_TYPES:
            return ORT_MODEL_TYPES[own]
        return "bert" if self.config.only_onnxruntime else None  # none of its fusions runs

    def _halve(self, optimized: OnnxModel, before: GraphProto) -> None:
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

        graph = optimized.model.graph
        check_takes_half(
            optimized.model,
            self.config.force_fp32_ops,
            self.config.force_fp32_nodes,
            keep_io_types=self.config.keep_io_types,
        )
        operators = {node.op_type for node in graph.node}
        _check("force_fp32_ops", "operator", self.config.force_fp32_ops, operators, {n.op_type for n in before.node})
        _check("force_fp16_inputs", "operator", self.config.force_fp16_inputs, operators, set())
        names = {node.name for node in graph.node}
        _check("force_fp32_nodes", "node", self.config.force_fp32_nodes, names, {node.name for node in before.node})
        blocked = [*DEFAULT_OP_BLOCK_LIST, *(self.config.force_fp32_ops or ())]
        kept = self.config.force_fp32_nodes
        optimized.convert_float_to_float16(
            op_block_list=blocked,
            node_block_list=index_arithmetic(optimized.model) if kept is None else list(kept),
            **self.config.fp16(),
        )

    def _warning(self, fused: Mapping[str, int], before: GraphProto, model: ModelHandle) -> str | None:
        """What the user should know of a fusion that did nothing, or not all."""
        has_attention = FUSED_ATTENTION & (fused.keys() | {node.op_type for node in before.node})
        switched_off = self.config.optimization_options.enable_attention is False
        wanted = not (switched_off or self.config.only_onnxruntime)
        reason = why_unfused(before) if wanted and not has_attention else None
        unstated = [each for each in ("num_heads", "hidden_size") if model.attributes.keys().isdisjoint(SIZES[each])]
        sizes = [option for option in unstated if not getattr(self.config, option)]
        if reason and sizes:
            reason = f"{reason}, or needs sizes that the model does not state: set {' and '.join(sizes)}"
        if fused:
            return reason and f"no attention was fused: {reason}"
        if reason:
            return f"nothing was fused: {reason}"
        if self.config.only_onnxruntime:
            return f"nothing was fused: ONNX Runtime alone fuses little at opt_level {self.config.opt_level}"
        return "nothing was fused: the graph has none of the patterns that this optimizer knows"


def _unknown(model: ModelHandle) -> str:
    own = model.attributes.get("model_type")
    return f"no fusions are known for model type {own!r}" if own else "the model does not state its type"


def _own_size(option: str, model: ModelHandle) -> tuple[str, int]:
    """What the model's config calls a size, and the size; 0 if it does not say, or has one for each of its stages."""
    found = ((name, model.attributes.get(name)) for name in SIZES[option])
    return next(((name, size) for name, size in found if isinstance(size, int) and size > 0), (option, 0))


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
                f"{option}: the fusions replaced the {kind} {name!r}: name nodes that are there after fusion"
            )
        hint = did_you_mean(name, there)
        raise PreconditionFailed(f"{option}: the graph has no {kind} {name!r}", hint=hint)

"""OrtTransformersOptimization: the blocks of a transformer as ONNX Runtime's own fused operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import UnknownName, only
from hfopt_onnx_model.graph import handle_of, save
from hfopt_ort_passes.quiet import quiet

if TYPE_CHECKING:
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.onnx_model import OnnxModel

_CPU_ONLY = "half precision and GPU graphs are not available in this version"

ORT_MODEL_TYPES: Mapping[str, str] = {
    "albert": "bert",
    "bert": "bert",
    "camembert": "bert",
    "deberta": "bert",
    "deberta-v2": "bert",
    "distilbert": "bert",
    "electra": "bert",
    "mpnet": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
}
"""ONNX Runtime's optimizer by the model_type of a Hugging Face config."""

FUSIONS = (
    "attention_mask_format",
    "disable_multi_head_attention_bias",
    "enable_attention",
    "enable_bias_gelu",
    "enable_bias_skip_layer_norm",
    "enable_embed_layer_norm",
    "enable_gelu",
    "enable_gelu_approximation",
    "enable_gemm_fast_gelu",
    "enable_layer_norm",
    "enable_qordered_matmul",
    "enable_rotary_embeddings",
    "enable_shape_inference",
    "enable_skip_layer_norm",
    "group_norm_channels_last",
    "use_multi_head_attention",
)
"""The attributes of `onnxruntime.transformers.fusion_options.FusionOptions` that a config may set."""


def _known_fusions(options: dict[str, bool | int]) -> dict[str, bool | int]:
    for name in options:
        if name not in FUSIONS:
            raise UnknownName("fusion option", name, list(FUSIONS))
    return options


class OrtTransformersOptimizationConfig(Config):
    """Options of ``OrtTransformersOptimization``."""

    model_type: str | None = Field(
        None, description="ONNX Runtime's optimizer, such as bert; null: from the model's own type."
    )
    num_heads: int = Field(0, ge=0, description="Attention heads; 0: from the model's config.")
    num_key_value_heads: int = Field(0, ge=0, description="Key and value heads; 0: from the model's config.")
    hidden_size: int = Field(0, ge=0, description="Width of a hidden state; 0: from the model's config.")
    optimization_options: Annotated[dict[str, bool | int], AfterValidator(_known_fusions)] = Field(
        {}, description="Single fusions on or off, as onnxruntime's FusionOptions has them."
    )
    opt_level: Literal[0, 1, 2, 99] | None = Field(
        None,
        description="What ONNX Runtime itself optimizes beforehand; null: 0, nothing, which leaves the graph portable.",
    )
    only_onnxruntime: bool = Field(False, description="Leave out the fusions proper; needs an opt_level of 1 or more.")
    input_int32: bool = Field(False, description="Take integer inputs as int32.")
    use_gpu: Annotated[bool, only(False, because=_CPU_ONLY)] = Field(False, description="Not available.")
    float16: Annotated[bool, only(False, because=_CPU_ONLY)] = Field(False, description="Not available.")
    keep_io_types: bool = Field(True, description="Of no effect without float16.")
    force_fp32_ops: Annotated[tuple[str, ...] | None, only(None, (), because=_CPU_ONLY)] = Field(
        None, description="Not available."
    )
    force_fp32_nodes: Annotated[tuple[str, ...] | None, only(None, (), because=_CPU_ONLY)] = Field(
        None, description="Not available."
    )
    force_fp16_inputs: Annotated[dict[str, Any] | None, only(None, {}, because=_CPU_ONLY)] = Field(
        None, description="Not available."
    )
    use_gqa: Annotated[bool, only(False, because=_CPU_ONLY)] = Field(False, description="Not available.")


class OrtTransformersOptimization(Pass):
    """Runs ONNX Runtime's transformer optimizer and reports how many operators it fused."""

    Config: ClassVar[type[Config]] = OrtTransformersOptimizationConfig
    accepts = frozenset({"ONNXModel"})
    config: OrtTransformersOptimizationConfig

    def requires(self, model: ModelHandle) -> None:
        if self.config.only_onnxruntime and not self.config.opt_level:
            raise PreconditionFailed("only_onnxruntime does nothing at opt_level 0", hint="set opt_level to 1, 2 or 99")
        self._optimizer(model)

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        target = context.folder / "model.onnx"
        with quiet():
            optimized = self._optimize(model)
            fused = {name: count for name, count in optimized.get_fused_operator_statistics().items() if count}
            if self.config.input_int32:
                optimized.change_graph_inputs_to_int32()
            optimized.topological_sort(is_deterministic=True)
            save(optimized.model, target)
        report: dict[str, Any] = {"fused": fused}
        if not fused:
            report["warning"] = "nothing was fused: the graph has none of the patterns that this optimizer knows"
        return PassResult(handle_of(target, like=model), report)

    def _optimize(self, model: ModelHandle) -> OnnxModel:
        from onnxruntime.transformers.optimizer import optimize_model

        optimizer = self._optimizer(model)
        return optimize_model(
            str(model.path),
            model_type=optimizer,
            num_heads=self.config.num_heads or int(model.attributes.get("num_attention_heads", 0)),
            hidden_size=self.config.hidden_size or int(model.attributes.get("hidden_size", 0)),
            optimization_options=self._fusion_options(optimizer),
            opt_level=self.config.opt_level or 0,
            only_onnxruntime=self.config.only_onnxruntime,
        )

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
            return self.config.model_type
        own = str(model.attributes.get("model_type"))
        if own not in ORT_MODEL_TYPES:
            known = ", ".join(sorted(ORT_MODEL_TYPES))
            raise PreconditionFailed(
                f"no fusions are known for model type {own!r}; known: {known}",
                hint="set model_type to ONNX Runtime's name of a like architecture, or leave this pass out",
            )
        return ORT_MODEL_TYPES[own]

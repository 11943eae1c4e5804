"""Options of OrtTransformersOptimization, and which of them go together. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from hfopt.api.config import UnknownName
from hfopt_onnx_model.external import ExternalDataConfig

ORT_MODEL_TYPES: Mapping[str, str] = {
    "albert": "bert",
    "bart": "bart",
    "beit": "vit",
    "bert": "bert",
    "camembert": "bert",
    "clip": "clip",
    "clip_text_model": "clip",
    "clip_vision_model": "clip",
    "deberta": "bert",
    "deberta-v2": "bert",
    "deit": "vit",
    "dinov2": "vit",
    "distilbert": "bert",
    "electra": "bert",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "llama": "gpt2",
    "marian": "bart",
    "mbart": "bart",
    "mistral": "gpt2",
    "mpnet": "bert",
    "mt5": "t5",
    "phi": "gpt2",
    "qwen3": "qwen3",
    "roberta": "bert",
    "segformer": "vit",
    "swin": "swin",
    "t5": "t5",
    "vit": "vit",
    "wav2vec2-conformer": "conformer",
    "whisper": "bart",
    "xlm-roberta": "bert",
}
"""ONNX Runtime's optimizer by the model_type of a Hugging Face config.

Its own for phi is for the graphs of one exporter script alone. With each of these a small random model, exported
without a cache, computed the same after fusion, rows padded on either side included.
"""

OPTIMIZERS = (
    "bart",
    "bert",
    "bert_keras",
    "bert_tf",
    "clip",
    "conformer",
    "gpt2",
    "gpt2_tf",
    "gpt_neox",
    "mmdit",
    "phi",
    "qwen3",
    "sam2",
    "swin",
    "t5",
    "tnlr",
    "unet",
    "vae",
    "vit",
)
"""The names that ONNX Runtime's optimizer has for architectures."""

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


def _known_model_type(name: str | None) -> str | None:
    if name is not None and name not in OPTIMIZERS and name not in ORT_MODEL_TYPES:
        raise UnknownName("model type that ONNX Runtime optimizes", name, sorted({*OPTIMIZERS, *ORT_MODEL_TYPES}))
    return name


class OrtTransformersOptimizationConfig(ExternalDataConfig):
    """Options of ``OrtTransformersOptimization``."""

    model_type: Annotated[str | None, AfterValidator(_known_model_type)] = Field(
        None, description="ONNX Runtime's optimizer, such as bert; null: from the model's own type."
    )
    num_heads: int = Field(0, ge=0, description="Attention heads; 0: from the model's config.")
    num_key_value_heads: int = Field(
        0, ge=0, description="Key and value heads, with use_gqa; 0: from the model's config."
    )
    hidden_size: int = Field(0, ge=0, description="Width of a hidden state; 0: from the model's config.")
    optimization_options: Annotated[dict[str, bool | int], AfterValidator(_known_fusions)] = Field(
        {}, description="Single fusions on or off, as onnxruntime's FusionOptions has them."
    )
    opt_level: Literal[0, 1, 2, 99] | None = Field(
        None,
        description="What ONNX Runtime itself optimizes beforehand; null: 0, nothing, which leaves the graph portable.",
    )
    use_gpu: bool = Field(False, description="What ONNX Runtime itself optimizes is for the run's GPU.")
    only_onnxruntime: bool = Field(False, description="Leave out the fusions proper; needs an opt_level of 1 or more.")
    float16: bool = Field(False, description="Weights and activations in half precision.")
    keep_io_types: bool = Field(True, description="With float16: inputs and outputs stay float32.")
    force_fp32_ops: tuple[str, ...] | None = Field(
        None, description="With float16: operators that stay in float32, besides those that ONNX Runtime leaves so."
    )
    force_fp32_nodes: tuple[str, ...] | None = Field(
        None, description="With float16: nodes that stay in float32, by their names after fusion."
    )
    force_fp16_inputs: dict[str, tuple[int, ...]] | None = Field(
        None, description="With float16: inputs, by operator and position, that are float16 all the same."
    )
    use_gqa: bool = Field(
        False,
        description="Attention with a cache as GroupQueryAttention: for causal models whose rows are padded on the "
        "right, if at all; on a GPU with float16 alone.",
    )
    input_int32: bool = Field(False, description="Take integer inputs as int32.")

    @model_validator(mode="after")
    def _goes_together(self) -> OrtTransformersOptimizationConfig:
        if self.only_onnxruntime and not self.opt_level:
            raise ValueError("only_onnxruntime does nothing at opt_level 0: set opt_level to 1, 2 or 99")
        if self.only_onnxruntime and self.optimization_options:
            raise ValueError("optimization_options are of the fusions, which only_onnxruntime leaves out")
        if self.only_onnxruntime and self.use_gqa:
            raise ValueError("use_gqa is of the fusions, which only_onnxruntime leaves out")
        for name in ("force_fp32_ops", "force_fp32_nodes", "force_fp16_inputs"):
            if getattr(self, name) and not self.float16:
                raise ValueError(f"{name} is of no use without float16")
        if self.num_key_value_heads and not self.use_gqa:
            raise ValueError("num_key_value_heads is of no use without use_gqa")
        return self

    def fp16(self) -> dict[str, Any]:
        """What onnxruntime's conversion to float16 is told, apart from operators that stay as they are."""
        return {
            "keep_io_types": self.keep_io_types,
            "node_block_list": list(self.force_fp32_nodes or ()),
            "force_fp16_inputs": {name: list(places) for name, places in (self.force_fp16_inputs or {}).items()},
        }

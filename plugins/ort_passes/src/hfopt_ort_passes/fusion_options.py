"""Options of OrtTransformersOptimization, and which of them go together. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from hfopt import Config
from hfopt.api.config import OptionError, UnknownName
from hfopt_onnx_model.external import ExternalDataConfig

ORT_MODEL_TYPES: Mapping[str, str] = {
    "albert": "bert",
    "audio-spectrogram-transformer": "vit",
    "bart": "bart",
    "beit": "vit",
    "bert": "bert",
    "camembert": "bert",
    "clip": "clip",
    "clip_text_model": "clip",
    "clip_vision_model": "clip",
    "convbert": "bert",
    "deberta": "bert",
    "deberta-v2": "bert",
    "deit": "vit",
    "dinov2": "vit",
    "distilbert": "bert",
    "dpt": "vit",
    "electra": "bert",
    "gemma": "gpt2",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "hubert": "bert",
    "layoutlm": "bert",
    "layoutlmv3": "bert",
    "llama": "gpt2",
    "marian": "bart",
    "mbart": "bart",
    "mistral": "gpt2",
    "modernbert": "bert",
    "mpnet": "bert",
    "mt5": "t5",
    "owlvit": "clip",
    "phi": "gpt2",
    "qwen2": "gpt2",
    "qwen3": "qwen3",
    "roberta": "bert",
    "roformer": "bert",
    "segformer": "vit",
    "siglip": "clip",
    "swin": "swin",
    "t5": "t5",
    "videomae": "vit",
    "vit": "vit",
    "wav2vec2": "bert",
    "wav2vec2-conformer": "conformer",
    "wavlm": "bert",
    "whisper": "bart",
    "xlm-roberta": "bert",
    "yolos": "vit",
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


AttentionOperator = Literal["Attention", "MultiHeadAttention", "GroupQueryAttention", "PagedAttention"]
_OF_PHI = "Only the optimizer phi looks at it."
_OF_DIFFUSION = "Only the optimizers unet, vae and clip look at it; null: true."


class FusionSwitches(Config):
    """``optimization_options``: attributes of `onnxruntime.transformers.fusion_options.FusionOptions`.

    Null is ONNX Runtime's default for the model type, apart from the mask and the embeddings (docs/decisions/0004).
    """

    attention_mask_format: Literal[0, 1, 2, 3] | None = Field(
        None,
        description="What fused attention is told of the mask: 0 where each row ends, which is wrong for rows padded "
        "on the left; 1 where it begins too; 2 the mask as it is; 3 nothing. Null: 2.",
    )
    disable_multi_head_attention_bias: bool | None = Field(None, description="Keep biases out of MultiHeadAttention.")
    enable_attention: bool | None = Field(None, description="Fuse attention; null: true.")
    enable_bias_gelu: bool | None = Field(
        None,
        description="Fuse a bias into Gelu; null: true. With false, saved session options keep ONNX Runtime from doing "
        "so as it opens the model: a product in int8 adds a bias by itself.",
    )
    enable_bias_skip_layer_norm: bool | None = Field(
        None, description="Fuse a bias into SkipLayerNormalization; null: true."
    )
    enable_embed_layer_norm: bool | None = Field(None, description="Fuse the embeddings; null: false.")
    enable_gelu: bool | None = Field(None, description="Fuse Gelu; null: true.")
    enable_gelu_approximation: bool | None = Field(None, description="FastGelu in place of Gelu; null: false.")
    enable_gemm_fast_gelu: bool | None = Field(None, description="Fuse a product into FastGelu; null: false.")
    enable_layer_norm: bool | None = Field(None, description="Fuse LayerNormalization; null: true.")
    enable_qordered_matmul: bool | None = Field(None, description="Fuse quantized products for CUDA; null: true.")
    enable_rotary_embeddings: bool | None = Field(None, description="Fuse rotary embeddings; null: true.")
    enable_shape_inference: bool | None = Field(None, description="Infer shapes for the fusions; null: true.")
    enable_skip_layer_norm: bool | None = Field(
        None,
        description="Fuse a residual into SkipLayerNormalization; null: true. With false, saved session options keep "
        "ONNX Runtime from doing so as it opens the model: on CPUs an Add and a LayerNormalization are faster.",
    )
    group_norm_channels_last: bool | None = Field(None, description="Channels last in GroupNorm; null: true.")
    attention_op_type: AttentionOperator | None = Field(
        None, description=f"The operator that fused attention becomes. {_OF_PHI}"
    )
    enable_bias_add: bool | None = Field(None, description=f"Fuse a bias into the sum behind it. {_OF_DIFFUSION}")
    enable_bias_splitgelu: bool | None = Field(None, description=f"Fuse a bias into a split Gelu. {_OF_DIFFUSION}")
    enable_group_norm: bool | None = Field(None, description=f"Fuse GroupNorm. {_OF_DIFFUSION}")
    enable_nhwc_conv: bool | None = Field(None, description=f"Convolutions with channels last. {_OF_DIFFUSION}")
    enable_packed_kv: bool | None = Field(None, description=f"Keys and values as one tensor. {_OF_DIFFUSION}")
    enable_packed_qkv: bool | None = Field(None, description=f"Queries, keys and values as one. {_OF_DIFFUSION}")
    enable_skip_group_norm: bool | None = Field(None, description=f"Fuse a residual into GroupNorm. {_OF_DIFFUSION}")
    use_multi_head_attention: bool | None = Field(
        None, description="MultiHeadAttention in place of Attention; null: false."
    )


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
        0, ge=0, description="Key and value heads; the graph tells them, and must agree where they are written."
    )
    hidden_size: int = Field(0, ge=0, description="Width of a hidden state; 0: from the model's config.")
    optimization_options: FusionSwitches = Field(FusionSwitches(), description="Single fusions on or off.")
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
        None,
        description="With float16: nodes that stay in float32, by their names after fusion; null: those that compute "
        "which bucket of distances two tokens are in.",
    )
    force_fp16_inputs: dict[str, tuple[int, ...]] | None = Field(
        None, description="With float16: inputs, by operator and position, that are float16 nevertheless."
    )
    use_gqa: bool | None = Field(
        None,
        description="Attention with a cache, of causal models, as GroupQueryAttention, whichever tokens are padding; "
        "on a GPU with float16 only. Null: on a CPU, where the graph has such attention.",
    )
    narrow_to_one_token: bool = Field(
        True,
        description="Compute what comes after the last attention for one token only, where the model reads only that "
        "one, as classifiers do.",
    )
    input_int32: bool = Field(False, description="Take integer inputs as int32.")

    def ignored(self) -> dict[str, str]:
        reasons = {} if self.float16 else {"keep_io_types": "it is of no use without float16"}
        if self.only_onnxruntime:
            reasons |= dict.fromkeys(
                ("model_type", "num_heads", "hidden_size", "narrow_to_one_token"),
                "only_onnxruntime leaves out the fusions",
            )
        return {name: reasons[name] for name in self.written(*reasons)}

    @field_validator("optimization_options", mode="before")
    @classmethod
    def _null_is_nothing(cls, written: Any) -> Any:
        return {} if written is None else written

    @model_validator(mode="after")
    def _goes_together(self) -> OrtTransformersOptimizationConfig:
        if self.only_onnxruntime and not self.opt_level:
            raise OptionError("only_onnxruntime", "does nothing at opt_level 0: set opt_level to 1, 2 or 99")
        if self.only_onnxruntime and self.optimization_options != FusionSwitches():
            raise OptionError("optimization_options", "they belong to the fusions, which only_onnxruntime leaves out")
        if self.only_onnxruntime and self.use_gqa:
            raise OptionError("use_gqa", "belongs to the fusions, which only_onnxruntime leaves out")
        for name in ("force_fp32_ops", "force_fp32_nodes", "force_fp16_inputs"):
            if getattr(self, name) and not self.float16:
                raise OptionError(name, "is of no use without float16")
        if self.num_key_value_heads and self.use_gqa is False:
            raise OptionError("num_key_value_heads", "is of no use without use_gqa")
        return self

    def fp16(self) -> dict[str, Any]:
        """What onnxruntime's conversion to float16 is told, apart from what stays in float32."""
        return {
            "keep_io_types": self.keep_io_types,
            "force_fp16_inputs": {name: list(places) for name, places in (self.force_fp16_inputs or {}).items()},
        }

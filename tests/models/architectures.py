"""Small random models of many architectures, as save_pretrained writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """An architecture with the head of a task.

    :param name: of its class in transformers, without the head: ``Bert`` of ``BertConfig``
    :param task: what its head is for
    :param config: what makes it small
    """

    name: str
    task: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the model, of seed 0."""
        import torch
        import transformers

        from hfopt_hf_model_loader.architecture import model_class
        from hfopt_hf_model_loader.hf_config import HfConfig

        own = getattr(transformers, f"{self.name}Config")(**self.config)
        torch.manual_seed(0)
        model_class(HfConfig(task=self.task), own, folder)(own).eval().save_pretrained(folder)


_TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_BERT = {**_TEXT, "type_vocab_size": 2}
_ROBERTA = {**_TEXT, "max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}
_DECODER = {**_TEXT, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
_GPT2 = {
    "vocab_size": 99,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SEQ2SEQ = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 37,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_WHISPER = {
    **_SEQ2SEQ,
    "num_mel_bins": 8,
    "max_source_positions": 30,
    "max_target_positions": 64,
    "begin_suppress_tokens": None,
}
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "image_size": 30,
    "patch_size": 6,
}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}
_CONV = {"hidden_sizes": [8, 16], "depths": [1, 1], "image_size": 32}
_WAV = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "do_stable_layer_norm": False,
    "classifier_proj_size": 16,
}
_CLIP = {
    "text_config": {**_TEXT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "projection_dim": 16},
    "vision_config": {**_VIT, "projection_dim": 16},
    "projection_dim": 16,
}

ARCHITECTURES = (
    Architecture("Bert", "text-classification", _BERT),
    Architecture("Bert", "fill-mask", _BERT),
    Architecture("Bert", "question-answering", _BERT),
    Architecture("Bert", "token-classification", _BERT),
    Architecture("Bert", "multiple-choice", _BERT),
    Architecture("Bert", "feature-extraction", _BERT),
    Architecture("Bert", "next-sentence-prediction", _BERT),
    Architecture(
        "DistilBert",
        "text-classification",
        {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37, "max_position_embeddings": 64},
    ),
    Architecture("Roberta", "text-classification", _ROBERTA),
    Architecture("XLMRoberta", "token-classification", _ROBERTA),
    Architecture("Camembert", "fill-mask", _ROBERTA),
    Architecture("Albert", "text-classification", {**_BERT, "embedding_size": 16}),
    Architecture("Electra", "token-classification", {**_BERT, "embedding_size": 16}),
    Architecture("MPNet", "fill-mask", {**_TEXT, "max_position_embeddings": 66, "pad_token_id": 1}),
    Architecture(
        "DebertaV2",
        "text-classification",
        {**_TEXT, "type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    Architecture(
        "Deberta",
        "question-answering",
        {**_TEXT, "type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    Architecture(
        "ModernBert",
        "text-classification",
        {
            **_TEXT,
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "cls_token_id": 3,
            "sep_token_id": 4,
            "bos_token_id": 3,
            "eos_token_id": 4,
        },
    ),
    Architecture("Tapas", "table-question-answering", _TEXT),
    Architecture(
        "MobileBert",
        "text-classification",
        {**_BERT, "embedding_size": 32, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    ),
    Architecture(
        "SqueezeBert",
        "text-classification",
        {
            **_BERT,
            "embedding_size": 32,
            "q_groups": 2,
            "k_groups": 2,
            "v_groups": 2,
            "post_attention_groups": 2,
            "intermediate_groups": 1,
            "output_groups": 1,
        },
    ),
    Architecture("ConvBert", "text-classification", {**_BERT, "embedding_size": 32, "head_ratio": 2}),
    Architecture("RoFormer", "fill-mask", {**_BERT, "embedding_size": 32}),
    Architecture(
        "XLNet",
        "text-classification",
        {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 37, "pad_token_id": 5},
    ),
    Architecture("LayoutLM", "token-classification", {**_BERT, "max_2d_position_embeddings": 1024}),
    Architecture(
        "LayoutLMv3",
        "token-classification",
        {
            **_TEXT,
            "max_2d_position_embeddings": 1024,
            "coordinate_size": 6,
            "shape_size": 4,
            "pad_token_id": 1,
            "max_position_embeddings": 66,
            "visual_embed": False,
            "has_spatial_attention_bias": False,
        },
    ),
    Architecture("GPT2", "text-classification", _GPT2),
    Architecture("Llama", "text-classification", _DECODER),
    Architecture("Qwen2", "token-classification", _DECODER),
    Architecture(
        "OPT",
        "text-classification",
        {
            "vocab_size": 99,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 37,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
    ),
    Architecture("Bart", "text-classification", _SEQ2SEQ),
    Architecture("Bart", "feature-extraction", _SEQ2SEQ),
    Architecture("T5", "text-classification", {**_T5, "eos_token_id": 1, "pad_token_id": 0}),
    Architecture("T5", "text2text-generation", _T5),
    Architecture("Bart", "summarization", _SEQ2SEQ),
    Architecture("Marian", "translation", _SEQ2SEQ),
    Architecture("MBart", "translation", _SEQ2SEQ),
    Architecture("Whisper", "automatic-speech-recognition", _WHISPER),
    Architecture("ViT", "image-classification", _VIT),
    Architecture("DeiT", "image-classification", _VIT),
    Architecture("Beit", "image-classification", {**_VIT, "vocab_size": 10}),
    Architecture("Dinov2", "image-feature-extraction", _VIT),
    Architecture("Swin", "image-classification", _SWIN),
    Architecture(
        "ResNet",
        "image-classification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
    Architecture("ConvNext", "image-classification", {**_CONV, "num_stages": 2}),
    Architecture("MobileNetV2", "image-classification", {"image_size": 32, "depth_multiplier": 0.25}),
    Architecture(
        "Segformer",
        "image-segmentation",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "hidden_sizes": [16, 32],
            "num_attention_heads": [2, 4],
            "sr_ratios": [2, 1],
            "patch_sizes": [3, 3],
            "strides": [4, 2],
            "mlp_ratios": [2, 2],
            "decoder_hidden_size": 16,
            "image_size": 32,
        },
    ),
    Architecture("Yolos", "object-detection", {**_VIT, "num_detection_tokens": 8, "image_size": [30, 30]}),
    Architecture(
        "DPT",
        "depth-estimation",
        {
            **_VIT,
            "image_size": 32,
            "patch_size": 16,
            "backbone_out_indices": [0, 1],
            "neck_hidden_sizes": [8, 8],
            "reassemble_factors": [2, 1],
            "fusion_hidden_size": 8,
            "is_hybrid": False,
            "use_auxiliary_head": False,
        },
    ),
    Architecture(
        "Swin2SR",
        "image-to-image",
        {"image_size": 16, "embed_dim": 16, "depths": [1], "num_heads": [2], "window_size": 4, "upscale": 2},
    ),
    Architecture(
        "VideoMAE",
        "video-classification",
        {
            **_VIT,
            "num_frames": 4,
            "tubelet_size": 2,
            "image_size": 12,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
        },
    ),
    Architecture("Wav2Vec2", "automatic-speech-recognition", _WAV),
    Architecture("Wav2Vec2", "audio-classification", _WAV),
    Architecture("Hubert", "automatic-speech-recognition", _WAV),
    Architecture("WavLM", "audio-classification", _WAV),
    Architecture(
        "AST",
        "audio-classification",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 37,
            "max_length": 64,
            "num_mel_bins": 32,
        },
    ),
    Architecture("SEW", "automatic-speech-recognition", _WAV),
    Architecture("CLIP", "zero-shot-image-classification", _CLIP),
    Architecture("Siglip", "zero-shot-image-classification", _CLIP),
    Architecture(
        "OwlViT",
        "zero-shot-object-detection",
        {
            "text_config": {**_TEXT, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2},
            "vision_config": _VIT,
            "projection_dim": 32,
        },
    ),
)

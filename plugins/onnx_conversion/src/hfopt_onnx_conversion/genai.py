"""genai_config.json, by which onnxruntime-genai loads a model that writes text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfopt import ModelHandle
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import PRESENT

NAME, TYPE = "genai_config.json", "decoder"
"""The type is any decoder's whose keys and values are apart; of gpt2 onnxruntime-genai expects them in one tensor."""

_PARTS = ("key", "value")


def write_config(model: ModelHandle, target: Path) -> Path:
    """Describe a decoder to onnxruntime-genai, beside its file.

    :param model: as it is before conversion: takes ``past_key_values.N.key``
    :param target: the ONNX file
    :return: the file that was written
    """
    file = target.parent / NAME
    file.write_text(json.dumps(_config(model, target.name), indent=4) + "\n")
    return file


def _config(model: ModelHandle, file: str) -> dict[str, Any]:
    """Sizes and names; what the model's config does not state is left out, and is what onnxruntime-genai assumes."""
    own = model.attributes
    kept = [spec for spec in model.inputs if spec.name.startswith(f"{PAST}.")]
    _, kv_heads, _, width = kept[0].axes
    length = _first(own, "max_position_embeddings", "n_positions")
    ends = {name: own.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    decoder = {
        "filename": file,
        "session_options": {"provider_options": []},
        "head_size": width,
        "hidden_size": _first(own, "hidden_size", "n_embd"),
        "num_attention_heads": _first(own, "num_attention_heads", "n_head"),
        "num_hidden_layers": len(kept) // len(_PARTS),
        "num_key_value_heads": kv_heads,
        "inputs": {spec.name: spec.name for spec in model.inputs if spec not in kept}
        | {f"past_{part}_names": f"{PAST}.%d.{part}" for part in _PARTS},
        "outputs": {"logits": "logits"} | {f"present_{part}_names": f"{PRESENT}.%d.{part}" for part in _PARTS},
    }
    described = {"type": TYPE, "vocab_size": own.get("vocab_size"), "context_length": length, **ends}
    described["pad_token_id"] = _first(ends, "pad_token_id", "eos_token_id")
    return {
        "model": {**_stated(described), "decoder": _stated(decoder)},
        "search": {"past_present_share_buffer": False, **_stated({"max_length": length})},
    }


def _first(values: Mapping[str, Any], *names: str) -> Any:
    """The first of these that there is; of several ends of a text the first."""
    found = next((values[name] for name in names if values.get(name) is not None), None)
    return found[0] if isinstance(found, list) else found


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

"""What a model's weights are, by the headers of its safetensors files: read with nothing but the standard library."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from hfopt.api.forecast import Weights
from hfopt_hf_model_loader.tensors import BITS, HEADER_LIMIT

_TABLE = re.compile(r"embed|wte\.|wpe\.|\bshared\.")
_ATTENTION = re.compile(r"query|key|value|qkv|[qkv]_(proj|lin)|c_attn|query_key_value")


def weights_of(folder: Path) -> Weights | None:
    """The weights of a folder's model; None if they are in no safetensors file that can be read."""
    counts, bits = Counter[str](), Counter[str]()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            for name, tensor in _header(file).items():
                if name != "__metadata__":
                    kind, count = _kind(name, tensor["shape"]), math.prod(tensor["shape"])
                    counts[kind] += count
                    bits[kind] += count * BITS[tensor["dtype"]]
        except (OSError, ValueError, LookupError, TypeError):  # what is wrong with it, the run will tell
            return None
    return {kind: (count, bits[kind] / count) for kind, count in counts.items() if count} or None


def _header(file: Path) -> dict[str, Any]:
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_LIMIT:
            raise ValueError("no header is that long")
        return dict(json.loads(stream.read(length)))


def _kind(name: str, shape: list[int]) -> str:
    if len(shape) != 2:
        return "other"
    if _TABLE.search(name):
        return "table"
    return "attention" if _ATTENTION.search(name) else "matrix"

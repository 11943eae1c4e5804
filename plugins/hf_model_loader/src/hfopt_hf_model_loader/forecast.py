"""What a model's weights are, by the headers of its safetensors files: read with nothing but the standard library."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hfopt.api.forecast import Weights
from hfopt_hf_model_loader.tensors import BITS, HEADER_LIMIT

_TABLE = re.compile(r"embed|wte\.|wpe\.|\bshared\.")
_BLOCK = re.compile(r"((?:^|.*?\.)([^.]+)\.\d+)\.")
"""``bert.encoder.layer.5`` and ``layer`` of ``bert.encoder.layer.5.output.dense.weight``."""
_ATTENTION = re.compile(r"query|key|value|qkv|[qkv]_(proj|lin)|c_attn|query_key_value")


def weights_of(folder: Path) -> Weights | None:
    """The weights of a folder's model; None if they are in no safetensors file that can be read."""
    try:
        headers = [_header(file) for file in sorted(folder.glob("*.safetensors"))]
        tensors = {name: each for header in headers for name, each in header.items() if name != "__metadata__"}
        sizes = {name: (math.prod(each["shape"]), BITS[each["dtype"]]) for name, each in tensors.items()}
        blocks = _blocks(tensors)
        kinds = {name: _kind(name, len(each["shape"]), blocks.get(name)) for name, each in tensors.items()}
    except (OSError, ValueError, LookupError, TypeError):  # what is wrong with it, the run will tell
        return None
    counts, bits = Counter[str](), Counter[str]()
    for name, (count, width) in sizes.items():
        counts[kinds[name]] += count
        bits[kinds[name]] += count * width
    weights = {kind: (count, bits[kind] / count) for kind, count in counts.items() if count}
    return weights | ({"blocks": (len({*blocks.values()}), 0)} if blocks else {}) if weights else None


def _blocks(names: Iterable[str]) -> dict[str, str]:
    """The block of each tensor that is of one: of a model's lists of modules the one of most tensors."""
    matches = {name: match for name in names if (match := _BLOCK.match(name))}
    usual = Counter(match[2] for match in matches.values()).most_common(1)
    return {name: match[1] for name, match in matches.items() if match[2] == usual[0][0]}


def _header(file: Path) -> dict[str, Any]:
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_LIMIT:
            raise ValueError("no header is that long")
        return dict(json.loads(stream.read(length)))


def _kind(name: str, axes: int, block: str | None) -> str:
    if axes != 2:
        return "other"
    if _TABLE.search(name):
        return "table"
    if block is None:
        return "head"
    return "attention" if _ATTENTION.search(name) else "matrix"

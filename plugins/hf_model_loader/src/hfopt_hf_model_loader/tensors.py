"""What safetensors files hold, by their headers alone: names, shapes, and what is wrong with a damaged one.

Whether a file is whole is decided by safetensors itself, when it opens it. Its words rarely name the tensor.
Source of what is looked for then: the format's description, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfopt import PreconditionFailed

Shape = tuple[int, ...]

HEADER_LIMIT = 20_000_000
"""Bytes of a header that is looked into for a mistake; safetensors itself reads five times as many."""

MOST_AXES = 64
"""Of a tensor that anything can hold."""

BITS = {
    **{"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **dict.fromkeys(("U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""How wide an element is."""


def shapes(file: Path) -> dict[str, Shape]:
    """The shape of every tensor of a file.

    :raises PreconditionFailed: it is missing, truncated, damaged, or something else; names the tensor
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        said = str(error).removeprefix("Error while deserializing header: ")
        raise PreconditionFailed(f"{file} {_fault(file) or f'is damaged: {said}'}", hint="fetch it again") from error
    except OSError as error:
        raise PreconditionFailed(f"{file} can't be read: {error}") from error


def _fault(file: Path) -> str | None:
    """What is wrong with a file that safetensors refuses; None if that can't be told better than it does."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if 8 + length > size:
            return "is truncated, or not a safetensors file"
        if length > HEADER_LIMIT:
            return None
        try:
            header = json.loads(stream.read(length), object_pairs_hook=_unique)
        except RecursionError:
            return "is not a safetensors file: its header is nested too deeply"
        except _Twice as error:
            return f"is damaged: its header names {error.args[0]!r} twice"
        except ValueError:
            return "is not a safetensors file"
    if not isinstance(header, dict):
        return "is not a safetensors file"
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    for name, tensor in tensors.items():
        if (wrong := _tensor_fault(tensor)) is not None:
            return f"is damaged: {name!r} {wrong}"
    if (wrong := next(_gaps(tensors), None)) is not None:
        return f"is damaged: {wrong}"
    promised = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    return f"is damaged: it has {size} bytes, and its header promises {promised}" if size != promised else None


def _tensor_fault(tensor: Any) -> str | None:
    """What is wrong with a tensor's entry in a header."""
    if not isinstance(tensor, dict) or not tensor.keys() >= {"dtype", "shape", "data_offsets"}:
        return "has no dtype, shape and data_offsets"
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        return f"is of a dtype that safetensors has not: {str(dtype)[:20]!r}"
    if not _sizes(shape) or len(shape) > MOST_AXES:
        return f"has {_short(shape)} as its shape"
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"has {_short(offsets)} as its data_offsets"
    takes, span = math.prod(shape) * BITS[dtype] // 8, offsets[1] - offsets[0]
    if takes != span:
        return f"takes {_short(takes)} bytes as {dtype} of the shape {_short(shape)}, and its data_offsets span {span}"
    return None


def _sizes(value: Any) -> bool:
    """Whether it is a list of integers that a file could have."""
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**63 for each in value)


def _gaps(tensors: dict[str, Any]) -> Iterator[str]:
    """Where the data of one tensor don't begin at the end of another's."""
    end, before = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda each: tuple(each[1]["data_offsets"])):
        begin = tensor["data_offsets"][0]
        if begin < end:
            yield f"the data of {name!r} overlap those of {before!r}"
        if begin > end:
            yield f"{begin - end} bytes before those of {name!r} belong to no tensor"
        end, before = tensor["data_offsets"][1], name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Twice(Exception):
    """A JSON object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise _Twice(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return found

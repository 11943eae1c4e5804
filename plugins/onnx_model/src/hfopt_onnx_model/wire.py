"""ONNX files without the data of their larger weights: read so, and written with data that were never in memory.

A model's weights are bytes in the middle of its protobuf message, and onnx reads and writes that as a whole, twice its
size in memory. Source of the encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

    from hfopt_onnx_model.weights import Later

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Numbers of fields: of a model, a graph, a tensor (onnx.proto)."""
VARINT, BYTES = 0, 2
FIXED: Mapping[int, int] = {1: 8, 5: 4}
"""Bytes of a field by its type on the wire."""

Message = mmap.mmap | bytes
Field = tuple[int, int, int, int]
"""A field's number, and where it begins, its value begins, and it ends."""


def referring(path: Path, larger: int) -> ModelProto:
    """A model whose larger initializers are external data of the file that it is in.

    :param larger: bytes; initializers of no more than that have their data
    :raises DecodeError: it is not a message, or ends too soon
    :raises OSError: the file can't be read
    """
    import onnx

    with path.open("rb") as file:
        if not path.stat().st_size:
            return onnx.ModelProto()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            places: list[tuple[int, int] | None] = []
            parts = []
            for number, begin, start, end in _fields(data, 0, len(data)):
                if number == GRAPH:
                    graph = _without_weights(data, start, end, larger, places)
                    parts.append(_header(GRAPH, len(graph)) + graph)
                else:
                    parts.append(data[begin:end])
    model = onnx.ModelProto.FromString(b"".join(parts))
    for tensor, place in zip(model.graph.initializer, places, strict=True):
        if place is not None:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in zip(("location", "offset", "length"), (path.name, *place), strict=True):
                tensor.external_data.add(key=key, value=str(value))
    return model


def write(model: ModelProto, path: Path, later: Mapping[int, Later]) -> None:
    """Write a model into a file of its own.

    :param later: data of initializers that have none, by their position in the graph
    """
    import onnx

    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    del rest.graph.initializer[:]
    first, last = _around(rest.graph.SerializeToString(), INITIALIZER)
    rest.ClearField("graph")
    before, after = _around(rest.SerializeToString(), GRAPH)
    parts: list[bytes | Later] = [first]
    for position, tensor in enumerate(model.graph.initializer):
        body: list[bytes | Later] = [tensor.SerializeToString()]
        if (data := later.get(position)) is not None:
            head, tail = _around(tensor.SerializeToString(), RAW_DATA)
            body = [head + _header(RAW_DATA, data.size), data, tail]
        parts += [_header(INITIALIZER, _size(body)), *body]
    parts.append(last)
    with path.open("wb") as file:
        for part in (before, _header(GRAPH, _size(parts)), *parts, after):
            file.writelines([part] if isinstance(part, bytes) else part.read())


def _size(parts: Sequence[bytes | Later]) -> int:
    return sum(len(part) if isinstance(part, bytes) else part.size for part in parts)


def _around(message: bytes, number: int) -> tuple[bytes, bytes]:
    """What is before a field in a message that has no such field, and what is behind: they are in order."""
    place = next((begin for each, begin, _, _ in _fields(message, 0, len(message)) if each > number), len(message))
    return message[:place], message[place:]


def _without_weights(data: Message, start: int, end: int, larger: int, places: list[tuple[int, int] | None]) -> bytes:
    """A graph's message without them; where they are, and how many bytes they have, is added to `places`."""
    parts = []
    for number, begin, value, after in _fields(data, start, end):
        if number != INITIALIZER:
            parts.append(data[begin:after])
            continue
        fields = list(_fields(data, value, after)) if after - value > larger else []
        stored = [field for field in fields if field[0] == RAW_DATA and field[3] - field[2] > larger]
        places.append((stored[-1][2], stored[-1][3] - stored[-1][2]) if stored else None)
        tensor = b"".join(data[field[1] : field[3]] for field in fields if field not in stored)
        parts.append(_header(INITIALIZER, len(tensor)) + tensor if stored else data[begin:after])
    return b"".join(parts)


def _fields(data: Message, at: int, end: int) -> Iterator[Field]:
    from google.protobuf.message import DecodeError

    while at < end:
        begin = at
        key, at = _varint(data, at)
        kind = key & 7
        value = at
        if kind == VARINT:
            _, at = _varint(data, at)
        elif kind == BYTES:
            size, value = _varint(data, at)
            at = value + size
        elif kind in FIXED:
            at += FIXED[kind]
        else:
            raise DecodeError(f"a field of type {kind}")
        if at > end:
            raise DecodeError("a field ends behind its message")
        yield key >> 3, begin, value, at


def _varint(data: Message, at: int) -> tuple[int, int]:
    """A number, seven bits a byte, and where it ends."""
    from google.protobuf.message import DecodeError

    number = 0
    for position, byte in enumerate(data[at : at + 10]):
        number |= (byte & 127) << 7 * position
        if byte < 128:
            return number, at + position + 1
    raise DecodeError("a number without an end")


def _header(number: int, size: int) -> bytes:
    """What is before the bytes of a field."""
    key, encoded = number << 3 | BYTES, bytearray()
    for value in (key, size):
        while value > 127:
            encoded.append(value & 127 | 128)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)

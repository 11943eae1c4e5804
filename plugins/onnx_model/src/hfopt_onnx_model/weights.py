"""Where the tensors of an ONNX model are stored, in its file or beside it: finding, reading and moving them.

Which of them go where is decided by `hfopt_onnx_model.graph.save`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, TensorProto

PAGE = 4096
"""A multiple of it is an offset from which a file can be mapped into memory."""

SMALL = 1024
"""Bytes below which a tensor may be one whose values an operator's meaning depends on: axes, shapes, pads."""


def bodies(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """The graph of a model, its functions, and every subgraph of their nodes."""
    waiting: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    while waiting:
        body = waiting.pop(0)
        yield body
        for node in body.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs


def tensors(model: ModelProto) -> Iterator[tuple[TensorProto, bool]]:
    """Every tensor that is stored in a model; with True if it is an attribute of a node, False if an initializer."""
    for body in bodies(model):
        yield from ((tensor, False) for tensor in getattr(body, "initializer", ()))
        for node in body.node:
            for attribute in node.attribute:
                stored = [attribute.t] if attribute.HasField("t") else attribute.tensors
                yield from ((tensor, True) for tensor in stored)


def read_in(model: ModelProto, folder: Path, *, below: float = math.inf) -> None:
    """Read external data from a model's folder.

    :param below: bytes; only smaller tensors: those whose values shape inference and version conversion look at
    """
    from onnx.external_data_helper import uses_external_data

    for tensor, _ in tensors(model):
        if uses_external_data(tensor) and span(tensor, folder)[2] < below:
            bring_in(tensor, data_of(tensor, folder))


def weight_bytes(model: ModelProto, folder: Path) -> int:
    """Bytes of all tensors, external ones in `folder` included; protobuf itself can't count beyond 2 GiB."""
    from onnx.external_data_helper import uses_external_data

    return sum(
        span(tensor, folder)[2] if uses_external_data(tensor) else tensor.ByteSize() for tensor, _ in tensors(model)
    )


def span(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """Where an external tensor lies: file, offset, length.

    :raises PreconditionFailed: outside the model's folder, or the file is missing or too short
    """
    from onnx.external_data_helper import ExternalDataInfo

    info = ExternalDataInfo(tensor)
    place = PurePosixPath(info.location)
    if place.is_absolute() or ".." in place.parts:
        raise PreconditionFailed(f"the weights of {tensor.name!r} are in {info.location!r}, outside the model's folder")
    file, offset = folder / place, info.offset or 0
    if not file.is_file():
        raise PreconditionFailed(f"{folder}: its weights are in {info.location}, which is missing")
    rest = file.stat().st_size - offset
    length = rest if info.length is None else info.length
    if not 0 <= length <= rest:
        raise PreconditionFailed(f"{file} is truncated: {tensor.name!r} would end at byte {offset + length}")
    return file, offset, length


def must_stay_inside(tensor: TensorProto, size: int) -> bool:
    """Whether ONNX Runtime may look for a tensor's values before it reads files beside the model, and refuse it there.

    It infers shapes from those of small integer tensors: shapes themselves, axes, indices.

    :param size: the tensor's bytes
    """
    import onnx

    return size < SMALL and tensor.data_type in (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def data_of(tensor: TensorProto, folder: Path) -> bytes:
    """The bytes of one tensor, wherever it has them."""
    from onnx import numpy_helper
    from onnx.external_data_helper import uses_external_data

    if uses_external_data(tensor):
        file, offset, length = span(tensor, folder)
        with open(file, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return bytes(numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data)


def bring_in(tensor: TensorProto, data: bytes) -> None:
    """Store a tensor inside the model."""
    import onnx

    tensor.raw_data = data
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.ClearField("external_data")


def move_out(tensor: TensorProto, data: bytes, file: Path, *, append: bool) -> None:
    """Append a tensor to a file of external data, at an offset from which it can be mapped into memory.

    Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md.
    """
    from onnx.external_data_helper import set_external_data

    with open(file, "ab" if append else "wb") as stream:
        stream.write(bytes(-stream.tell() % PAGE))
        offset = stream.tell()
        stream.write(data)
    tensor.raw_data = b""
    set_external_data(tensor, file.name, offset, len(data))
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)

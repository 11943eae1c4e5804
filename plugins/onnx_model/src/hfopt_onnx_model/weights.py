"""Where the tensors of an ONNX model are stored, in its file or beside it: finding, reading and moving them.

Which of them go where is decided by `hfopt_onnx_model.graph.save`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed
from hfopt.api.files import file_inside

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, TensorProto

PAGE = 4096
"""A multiple of it is an offset from which a file can be mapped into memory."""

HELD = 1_000_000_000
"""Bytes of a model's weights from which they are read anew for each of a few runs, and not held in memory."""

SMALL = 1024
"""Bytes below which a tensor may be one whose values an operator's meaning depends on: axes, shapes, pads."""

NARROW = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Bits of dtypes that share bytes."""

TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
"""Where a tensor has its numbers if it has neither bytes nor external data."""
MOST_AXES = 64
"""Of a NumPy array."""
BLOCK = 1 << 24
"""Bytes that are copied at a time."""
PACKED = 4
"""How many elements at most share one of those numbers."""


@dataclass(frozen=True)
class Later:
    """The data of a tensor that are read when they are written.

    :param size: bytes
    :param read: yields them, block by block
    """

    size: int
    read: Callable[[], Iterable[bytes]]


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

    try:
        info = ExternalDataInfo(tensor)
    except ValueError as error:
        reason = str(error).partition(";")[0]
        raise PreconditionFailed(f"where the weights of {tensor.name!r} are can't be read: {reason}") from error
    place, shown = PurePosixPath(info.location), info.location[:100]
    if place.is_absolute() or ".." in place.parts:
        raise PreconditionFailed(f"the weights of {tensor.name!r} are in {shown!r}, outside the model's folder")
    file, offset = folder / place, info.offset or 0
    if not place.parts or not os.path.lexists(file):
        raise PreconditionFailed(f"{folder}: its weights are in {shown!r}, which is missing")
    file_inside(file, folder)
    rest = file.stat().st_size - offset
    length = rest if info.length is None else info.length
    if not 0 <= length <= rest:
        raise PreconditionFailed(
            f"{file} is truncated: it has {offset + rest} bytes, and {tensor.name!r} "
            + (f"would end at byte {offset + length}" if length > 0 else f"begins at byte {offset}")
        )
    return file, offset, length


def check_size(tensor: TensorProto, path: Path) -> None:
    """See that a tensor has as many bytes as its shape and dtype take.

    :param path: the model's file
    :raises PreconditionFailed: it has not, or has no such shape or dtype; or as `span`
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    what, dims = f"{path} is damaged: {tensor.name!r}", list(tensor.dims)
    if not is_dtype(tensor.data_type):
        raise PreconditionFailed(f"{what} has no dtype that ONNX knows")
    if len(dims) > MOST_AXES:
        raise PreconditionFailed(f"{what} has {len(dims)} axes; arrays have at most {MOST_AXES}")
    if min(dims, default=0) < 0:
        raise PreconditionFailed(f"{what} is of the shape {dims}")
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    elements = math.prod(dims)
    takes = -(-elements * _bits(tensor.data_type) // 8)
    if uses_external_data(tensor):
        has = span(tensor, path.parent)[2]
    elif tensor.HasField("raw_data"):
        has = len(tensor.raw_data)
    else:
        stored = max(len(getattr(tensor, field)) for field in TYPED)
        has = takes if elements <= stored * PACKED else stored
    if has != takes:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise PreconditionFailed(f"{what} takes {takes} bytes as {kind} of the shape {dims}, and it has {has}")


def is_dtype(number: int) -> bool:
    """Whether it stands for a dtype that this version of onnx knows."""
    import onnx

    return number in onnx.TensorProto.DataType.values() and number != onnx.TensorProto.UNDEFINED


def _bits(data_type: int) -> int:
    """How wide an element is, where it is stored as bytes."""
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type)
    if name in NARROW:
        return NARROW[name]
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


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


def blocks_of(file: Path, offset: int, length: int) -> Iterator[bytes]:
    """Part of a file."""
    with file.open("rb") as stream:
        stream.seek(offset)
        while length > 0:
            block = stream.read(min(BLOCK, length))
            length -= len(block)
            yield block


def bring_in(tensor: TensorProto, data: bytes) -> None:
    """Store a tensor inside the model."""
    leave_out(tensor)
    tensor.raw_data = data


def leave_out(tensor: TensorProto) -> None:
    """Leave a tensor without data."""
    for field in ("data_location", "external_data", "raw_data", *TYPED):
        tensor.ClearField(field)


def move_out(tensor: TensorProto, blocks: Iterable[bytes], file: Path, *, append: bool) -> None:
    """Append a tensor to a file of external data, at an offset from which it can be mapped into memory.

    :param blocks: its bytes
    Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md.
    """
    from onnx.external_data_helper import set_external_data

    with open(file, "ab" if append else "wb") as stream:
        stream.write(bytes(-stream.tell() % PAGE))
        offset = stream.tell()
        stream.writelines(blocks)
        length = stream.tell() - offset
    tensor.raw_data = b""
    set_external_data(tensor, file.name, offset, length)
    for field in ("raw_data", *TYPED):
        tensor.ClearField(field)

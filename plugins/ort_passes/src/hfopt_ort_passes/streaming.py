"""An ONNX model's weights one at a time: read from where they are, written where they go.

What is larger than memory passes through here. Models as a whole are read and written by `hfopt_onnx_model.graph`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

BLOCK = 1 << 24
"""Bytes that are copied at a time."""

ALIGNMENT = 64
"""Where a tensor may begin in a file of several: mapped into memory, it is then aligned for any vector unit."""


EVERYTHING = slice(None)


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that are attributes of a node: If, Loop and Scan have some."""
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graphs inside a graph, the innermost first, then itself."""
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs(inner)
    yield graph


def attribute_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """The tensors that are attributes of nodes."""
    nodes: list[NodeProto] = [node for graph in graphs(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    for node in nodes:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)


def has_external_data(model: ModelProto) -> bool:
    """Whether a weight lies beside the model."""
    from onnx.external_data_helper import uses_external_data

    return any(uses_external_data(tensor) for graph in graphs(model.graph) for tensor in graph.initializer)


def read(tensor: TensorProto, folder: Path, *, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> NDArray[Any]:
    """A weight, or some rows or columns of a matrix, without reading the others.

    Mapping the file would not do: the system may map all of it for a single column, and counts that as this process's.

    :param folder: of the model
    :raises PreconditionFailed: its file is missing or too short, or not in the folder
    """
    import numpy as np
    import onnx
    from onnx.external_data_helper import uses_external_data

    if not uses_external_data(tensor):
        array = onnx.numpy_helper.to_array(tensor)
        return array if rows == columns == EVERYTHING else array[rows, columns]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    file, offset, length = _place(tensor, folder)
    if length < math.prod(tensor.dims) * dtype.itemsize:
        raise PreconditionFailed(f"{file.name} has fewer bytes of the weight {tensor.name} than its shape says")
    if rows == columns == EVERYTHING:
        return np.fromfile(file, dtype, math.prod(tensor.dims), offset=offset).reshape(tuple(tensor.dims))
    height, width = tensor.dims
    top, bottom, _ = rows.indices(height)
    left, right, _ = columns.indices(width)
    if (left, right) == (0, width):
        part = np.fromfile(file, dtype, (bottom - top) * width, offset=offset + top * width * dtype.itemsize)
        return part.reshape(bottom - top, width)
    buffer = np.empty((bottom - top, (right - left) * dtype.itemsize), np.uint8)
    with file.open("rb", buffering=0) as stream:
        for number, row in enumerate(range(top, bottom)):
            stream.seek(offset + (row * width + left) * dtype.itemsize)
            stream.readinto(buffer[number].data)
    return buffer.view(dtype)


def _place(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """The file of external data, where the tensor begins in it, and its bytes."""
    from onnx.external_data_helper import ExternalDataInfo

    info = ExternalDataInfo(tensor)
    file = Path(os.path.normpath(folder / info.location))
    if not file.is_relative_to(os.path.normpath(folder)):
        raise PreconditionFailed(f"the weight {tensor.name} is said to lie outside of the model's folder")
    if not file.is_file():
        raise PreconditionFailed(f"the weight {tensor.name} is in {info.location}, which is missing")
    offset = info.offset or 0
    length = file.stat().st_size - offset if info.length is None else info.length
    if length < 0 or offset + length > file.stat().st_size:
        raise PreconditionFailed(f"{info.location} is too short: it ends before the weight {tensor.name} does")
    return file, offset, length


class WeightWriter:
    """Gives tensors their data: in files beside the model, or, below the threshold or if nothing is external, in it.

    :param path: of the model
    :param external: write external data at all

    ``files`` are the names of those it has written, ``bytes`` what tensors it has stored.
    """

    def __init__(self, path: Path, options: ExternalDataConfig, *, external: bool) -> None:
        self._path, self._options, self._external = path, options, external
        self.files: set[str] = set()
        self.bytes = 0

    def put(self, tensor: TensorProto, blocks: Iterable[bytes], size: int) -> None:
        """Store a tensor's data.

        :param tensor: what it is but for its data
        :param blocks: its data; `size` bytes in all
        """
        from onnx.external_data_helper import set_external_data

        self.bytes += size
        tensor.raw_data = b""  # set_external_data asks that there be some
        if not self._external or size < self._options.size_threshold:
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = b"".join(blocks)
            return
        name = self._file_for(tensor)
        with (self._path.parent / name).open("ab") as stream:
            offset = math.ceil(stream.tell() / ALIGNMENT) * ALIGNMENT
            stream.write(bytes(offset - stream.tell()))
            for block in blocks:
                stream.write(block)
        set_external_data(tensor, name, offset, size)
        tensor.ClearField("raw_data")

    def copy(self, tensor: TensorProto, folder: Path) -> None:
        """Store a tensor's data as they are.

        :param tensor: of a model in `folder`
        """
        from onnx.external_data_helper import uses_external_data

        if uses_external_data(tensor):
            file, offset, length = _place(tensor, folder)
            self.put(tensor, _blocks(file, offset, length), length)
        elif self._external and tensor.HasField("raw_data"):
            data = tensor.raw_data
            self.put(tensor, [data], len(data))

    def _file_for(self, tensor: TensorProto) -> str:
        """The one file, or one that is named for the tensor and is its own."""
        if self._options.all_tensors_to_one_file:
            name = self._options.external_data_name or f"{self._path.name}.data"
        else:
            plain = re.sub(r"[^\w.-]", "_", tensor.name).lstrip(".") or "tensor"
            name = free_name(plain, {*self.files, self._path.name})
        self.files.add(name)
        return name


def _blocks(file: Path, offset: int, length: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(offset)
        while length > 0:
            block = stream.read(min(BLOCK, length))
            length -= len(block)
            yield block


def free_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken."""
    numbered = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    return next(each for each in numbered if each not in taken)

"""An ONNX model's weights one at a time: parts of them read, and new ones written where they belong.

Where weights are stored is `hfopt_onnx_model.weights`; a model that is finished is written by its `graph.save`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.weights import blocks_of, bring_in, data_of, move_out, must_stay_inside, span, tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, TensorProto

EVERYTHING = slice(None)


def has_external_data(model: ModelProto) -> bool:
    """Whether a weight lies beside the model."""
    from onnx.external_data_helper import uses_external_data

    return any(uses_external_data(tensor) for tensor, _ in tensors(model))


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
    file, offset, length = span(tensor, folder)
    if length < math.prod(tensor.dims) * dtype.itemsize:
        raise PreconditionFailed(f"{file.name} has fewer bytes of the weight {tensor.name!r} than its shape says")
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


class WeightWriter:
    """Gives tensors their data: in files beside the model, or, below the threshold or if nothing is external, in it.

    ``files`` are those it has written, ``bytes`` what tensors it has stored.

    :param path: of the model
    :param external: write external data at all
    """

    def __init__(self, path: Path, options: ExternalDataConfig, *, external: bool) -> None:
        self._path, self._options, self.external = path, options, external
        self.files: list[Path] = []
        self.bytes = 0

    def put(self, tensor: TensorProto, data: bytes) -> None:
        """Store a tensor's data, whatever it had before."""
        if self._stays_inside(tensor, len(data)):
            bring_in(tensor, data)
        else:
            file, append = self._next_file()
            move_out(tensor, [data], file, append=append)

    def copy(self, tensor: TensorProto, folder: Path) -> None:
        """Store the data that a tensor has beside another model, block by block.

        :param folder: of that model
        """
        source, offset, length = span(tensor, folder)
        if self._stays_inside(tensor, length):
            bring_in(tensor, data_of(tensor, folder))
            return
        file, append = self._next_file()
        move_out(tensor, blocks_of(source, offset, length), file, append=append)

    def _stays_inside(self, tensor: TensorProto, size: int) -> bool:
        self.bytes += size
        small = size < max(1, self._options.size_threshold)
        return not self.external or small or must_stay_inside(tensor, size)

    def _next_file(self) -> tuple[Path, bool]:
        """Where a tensor goes, and whether others are there already."""
        name = self._options.external_data_name or f"{self._path.name}.data"
        one = self._options.all_tensors_to_one_file
        append = one and bool(self.files)
        if not append:
            self.files.append(self._path.parent / (name if one else f"{name}.{len(self.files):04}"))
        return self.files[-1], append


def free_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken."""
    numbered = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    return next(each for each in numbered if each not in taken)

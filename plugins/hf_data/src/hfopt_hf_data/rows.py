"""Prepared rows, read from memory-mapped Arrow: no torch, no transformers, one batch in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, Dataset, PreconditionFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

ROWS, LAYOUT, LABEL = "rows.arrow", "layout.json", "label"


class Rows(Dataset):
    """What `hfopt_hf_data.prepare` wrote.

    The layout says how rows are padded: ``fillers`` of each input (else 0), the ``side``, ``width`` where it is fixed;
    and ``shapes`` of inputs whose rows have more than one axis, with -1 for one that varies.

    :cvar own: columns that are no inputs
    """

    own: tuple[str, ...] = ()

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        import pyarrow

        with pyarrow.memory_map(str(folder / ROWS)) as source:
            table = pyarrow.ipc.open_file(source).read_all()
        self._rows = table.num_rows
        self._columns = dict(zip(table.column_names, table.columns, strict=True))
        self._labels = self._columns.pop(LABEL, None)
        self._own = {name: self._columns.pop(name) for name in self.own if name in self._columns}
        self._layout = json.loads((folder / LAYOUT).read_text("utf-8"))
        self._left = self._layout["side"] == "left"
        self._batch_size = config.batch_size

    def __len__(self) -> int:
        return int(self._rows)

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        import numpy as np

        wanted = range(len(self)) if rows is None else rows
        step = size or self._batch_size or 1
        for start in range(0, len(wanted), step):
            positions = np.asarray(wanted[start : start + step], dtype=np.int64)
            yield Batch(positions, self._feeds(positions), self._labels_of(positions))

    def lengths(self) -> NDArray[np.int64] | None:
        """Tokens of every row, int64 [n]; all the same where rows are padded to a fixed width.

        Reads where each row ends, not its tokens.

        :return: None if the user wrote a batch size
        """
        import numpy as np
        import pyarrow.compute

        if self._batch_size is not None:
            return None
        own = pyarrow.compute.list_value_length(next(iter(self._columns.values())))
        return np.maximum(own.to_numpy().astype(np.int64), self._layout["width"] or 0)

    def _feeds(self, positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        # scalar by scalar: Arrow's take would copy whole columns, as they are in chunks
        return {
            name: self._padded(name, [column[int(position)].values.to_numpy() for position in positions])
            for name, column in self._columns.items()
        }

    def _padded(self, name: str, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Rows of one input as one array, as wide as the longest of them or as the layout says."""
        shape = self._layout.get("shapes", {}).get(name)
        if shape is not None:
            values = [each.reshape(shape) for each in values]
        filler = self._layout["fillers"].get(name, 0)
        return padded(values, filler, left=self._left, width=self._layout["width"])

    def _labels_of(self, positions: NDArray[np.int64]) -> NDArray[Any] | None:
        import numpy as np

        if self._labels is None:
            return None
        return np.array([self._labels[int(position)].as_py() for position in positions])

    def post_process(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The logits, float32 [batch, outputs]: metrics choose classes, or need scores. None may be no number.

        :raises PreconditionFailed: if there is such a row: NumPy would take its first NaN for the largest
        """
        import numpy as np

        logits = logits_of(outputs)
        check_numbers(logits)
        return logits.astype(np.float32)


def padded(
    values: Sequence[NDArray[Any]], filler: float, *, left: bool = False, width: int | None = None
) -> NDArray[Any]:
    """Rows as one array: int64 or float32.

    :param values: of each row, [length, ...]
    :param left: fill before them
    :param width: the least that the array has
    """
    import numpy as np

    longest = max(width or 0, *map(len, values))
    dtype = np.float32 if values[0].dtype.kind == "f" else np.int64
    whole: NDArray[Any] = np.full((len(values), longest, *values[0].shape[1:]), filler, dtype)
    for row, each in zip(whole, values, strict=True):
        row[slice(longest - len(each), None) if left else slice(len(each))] = each
    return whole


def logits_of(outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The output of that name, else the first."""
    return outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))


def check_numbers(outputs: NDArray[Any]) -> None:
    """That every row of a model's output is numbers.

    :raises PreconditionFailed: some are NaN
    """
    import numpy as np

    lost = int(np.isnan(outputs).reshape(len(outputs), -1).any(axis=-1).sum())
    if lost:
        raise PreconditionFailed(
            f"the model's outputs are not numbers (NaN) for {lost} of {len(outputs)} rows of a batch",
            hint="in float16 values may grow too large: OrtMixedPrecision keeps such nodes in float32",
        )


def ragged(rows: Sequence[Any]) -> NDArray[Any]:
    """Arrays of different lengths as an array of them, [batch]."""
    import numpy as np

    array = np.empty(len(rows), dtype=object)
    for number, row in enumerate(rows):
        array[number] = row
    return array

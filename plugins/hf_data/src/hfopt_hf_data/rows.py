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

ROWS, PADDING, LABEL = "rows.arrow", "padding.json", "label"


class Rows(Dataset):
    """What `hfopt_hf_data.prepare` wrote.

    :param batch_size: rows in a batch, if the user wrote it
    """

    def __init__(self, folder: Path, batch_size: int | None) -> None:
        import pyarrow

        with pyarrow.memory_map(str(folder / ROWS)) as source:
            table = pyarrow.ipc.open_file(source).read_all()
        self._rows = table.num_rows
        self._columns = dict(zip(table.column_names, table.columns, strict=True))
        self._labels = self._columns.pop(LABEL, None)
        self._padding = json.loads((folder / PADDING).read_text("utf-8"))
        self._left = self._padding["side"] == "left"
        self._batch_size = batch_size

    def __len__(self) -> int:
        return int(self._rows)

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        import numpy as np

        wanted = range(len(self)) if rows is None else rows
        step = size or self._batch_size or 1
        for start in range(0, len(wanted), step):
            positions = np.asarray(wanted[start : start + step], dtype=np.int64)
            feeds = {name: self._padded(name, positions) for name in self._columns}
            yield Batch(positions, feeds, self._labels_of(positions))

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
        return np.maximum(own.to_numpy().astype(np.int64), self._padding["width"] or 0)

    def _padded(self, name: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of one input as one array, as wide as the longest of them or as the config says."""
        import numpy as np

        # scalar by scalar: Arrow's take would copy whole columns, as they are in chunks
        values = [self._columns[name][int(position)].values.to_numpy() for position in positions]
        width = max(self._padding["width"] or 0, *map(len, values))
        padded = np.full((len(values), width), self._padding["fillers"].get(name, 0), dtype=np.int64)
        for row, ids in zip(padded, values, strict=True):
            row[slice(width - len(ids), None) if self._left else slice(len(ids))] = ids
        return padded

    def _labels_of(self, positions: NDArray[np.int64]) -> NDArray[Any] | None:
        import numpy as np

        if self._labels is None:
            return None
        return np.array([self._labels[int(position)].as_py() for position in positions])

    def post_process(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The logits, float32 [batch, outputs]: metrics choose classes, or need scores. None may be no number.

        :raises PreconditionFailed: if there is such a row: NumPy would take its first NaN for the largest
        """
        import numpy as np

        logits = outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
        lost = int(np.isnan(logits).any(axis=-1).sum())
        if lost:
            raise PreconditionFailed(
                f"the model's outputs are not numbers (NaN) for {lost} of {len(logits)} rows of a batch",
                hint="in float16 values may grow too large: OrtMixedPrecision keeps such nodes in float32",
            )
        return logits.astype(np.float32)

"""Prepared rows, read from memory-mapped Arrow: no torch, no transformers, one batch in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS, SETTINGS, LABEL = "rows.arrow", "settings.json", "label"


class Rows(Dataset):
    """What `hfopt_hf_data.prepare` wrote."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        import pyarrow

        with pyarrow.memory_map(str(folder / ROWS)) as source:
            self._table = pyarrow.ipc.open_file(source).read_all()
        self._settings = json.loads((folder / SETTINGS).read_text("utf-8"))
        self._batch_size = batch_size

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        import numpy as np

        wanted = range(len(self)) if rows is None else rows
        for start in range(0, len(wanted), self._batch_size):
            positions = np.asarray(wanted[start : start + self._batch_size], dtype=np.int64)
            taken = self._table.take(positions).to_pydict()
            labels = taken.pop(LABEL, None)
            feeds = {name: self._padded(name, values) for name, values in taken.items()}
            yield Batch(positions, feeds, None if labels is None else np.asarray(labels, dtype=np.int64))

    def _padded(self, name: str, values: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Rows as one array, as wide as the longest of them."""
        import numpy as np

        width = max(map(len, values))
        padded = np.full((len(values), width), self._settings["padding"].get(name, 0), dtype=np.int64)
        for row, ids in zip(padded, values, strict=True):
            row[slice(width - len(ids), None) if self._settings["side"] == "left" else slice(len(ids))] = ids
        return padded

    def post_process(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The class with the largest logit, [batch]."""
        logits = outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
        return logits.argmax(axis=-1)

"""Batches of arrays in a folder: as somebody made them, one after another, one in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from hfopt import Batch, Dataset, PreconditionFailed
from hfopt.api.config import ReportProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS, INDEX = "arrays.bin", "index.json"


class Made(NamedTuple):
    """A batch as it was made: arrays by input name, and labels [rows, ...], if there are some."""

    feeds: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None


def write(batches: Iterable[Made], folder: Path, progress: ReportProgress, *, times: int = 1) -> None:
    """Write batches one by one.

    :param times: how often each is there; it is written once
    :raises PreconditionFailed: there is none, or one whose inputs and labels are not of the same rows
    """
    index: list[dict[str, Any]] = []
    done = 0
    with open(folder / ARRAYS, "wb") as file:
        for number, batch in enumerate(batches):
            rows = _rows(batch, number)
            places = {name: _append(file, array) for name, array in batch.feeds.items()}
            labels = None if batch.labels is None else _append(file, batch.labels)
            shapes = {name: array.shape for name, array in batch.feeds.items()}
            kind = {name: shape[1:] for name, shape in shapes.items() if shape[:1] == (rows,)}
            alone = [] if len(kind) == len(shapes) else [number]
            told = json.dumps([kind, None if batch.labels is None else batch.labels.shape[1:], *alone])
            index += [{"rows": rows, "feeds": places, "labels": labels, "kind": told}] * times
            done += rows * times
            progress("rows", done, None)
    if not index:
        raise PreconditionFailed("the data has no rows")
    (folder / INDEX).write_text(json.dumps(index), "utf-8")


def _rows(batch: Made, number: int) -> int:
    """How many rows a batch has: as many as labels, else as its first array."""
    if not batch.feeds:
        raise PreconditionFailed(f"batch {number} has no inputs")
    counts = [len(each) if each.ndim else 1 for each in batch.feeds.values()]
    if batch.labels is not None and len(batch.labels) not in counts:
        raise PreconditionFailed(f"batch {number} has {counts[0]} rows and {len(batch.labels)} labels")
    return counts[0] if batch.labels is None else len(batch.labels)


def _append(file: IO[bytes], array: NDArray[Any]) -> int:
    """Write an array at the end.

    :return: where it begins
    """
    import numpy as np

    place = file.tell()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return place


class Stored(Dataset):
    """What `write` wrote. Batches stay as they were made, unless others are asked for.

    An array of as many entries as a batch has rows is one of rows; any other goes with every row of its batch, which
    then shares no batch with rows of another.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / ARRAYS
        self._index: list[dict[str, Any]] = json.loads((folder / INDEX).read_text("utf-8"))
        self._places = [(number, at) for number, each in enumerate(self._index) for at in range(each["rows"])]
        self._read = lru_cache(maxsize=1)(self._read_from_file)

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        if rows is None and size is None:
            for _, group in groupby(range(len(self)), lambda row: self._places[row][0]):
                yield self._joined([*group])
            return
        wanted = range(len(self)) if rows is None else rows
        step = size or max(each["rows"] for each in self._index)
        for start in range(0, len(wanted), step):
            for _, group in groupby(wanted[start : start + step], self._kind):
                yield self._joined([*group])

    def _kind(self, row: int) -> str:
        """What rows must share to be in one batch."""
        return str(self._index[self._places[row][0]]["kind"])

    def _joined(self, rows: Sequence[int]) -> Batch:
        import numpy as np

        parts: list[Made] = []
        for number, group in groupby(rows, lambda row: self._places[row][0]):
            made, chosen = self._read(number), [self._places[row][1] for row in group]
            count = self._index[number]["rows"]
            if chosen != [*range(count)]:
                cut = {name: each[chosen] for name, each in made.feeds.items() if each.shape[:1] == (count,)}
                made = Made({**made.feeds, **cut}, None if made.labels is None else made.labels[chosen])
            parts.append(made)
        first = parts[0]
        if len(parts) > 1:
            feeds = {name: np.concatenate([part.feeds[name] for part in parts]) for name in first.feeds}
            labels = [part.labels for part in parts if part.labels is not None]
            first = Made(feeds, np.concatenate(labels) if labels else None)
        return Batch(np.asarray(rows, dtype=np.int64), dict(first.feeds), first.labels)

    def _read_from_file(self, number: int) -> Made:
        import numpy as np

        entry = self._index[number]
        with open(self._file, "rb") as file:

            def at(place: int) -> NDArray[Any]:
                file.seek(place)
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
                return array

            feeds = {name: at(place) for name, place in entry["feeds"].items()}
            return Made(feeds, None if entry["labels"] is None else at(entry["labels"]))

    def post_process(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The logits, else the first output."""
        return outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))

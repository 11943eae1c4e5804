"""Rows of several sequences each: two texts to compare, or the windows of a text that is too long for one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from hfopt import Batch, Session
from hfopt_hf_data.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]


class Ran(NamedTuple):
    """What a model said of a sequence of some rows.

    :param rows: positions in the batch
    :param turn: which of their sequences
    """

    rows: NDArray[np.int64]
    turn: int
    feeds: Arrays
    outputs: Arrays


class Groups(Rows):
    """Inputs are lists of sequences. A batch feeds the first of each row; `run` runs all of them."""

    def lengths(self) -> NDArray[np.int64] | None:
        import numpy as np
        import pyarrow.compute

        if self._batch_size is not None:
            return None
        first = pyarrow.compute.list_element(next(iter(self._columns.values())), 0)
        own = pyarrow.compute.list_value_length(first).to_numpy().astype(np.int64)
        return np.maximum(own, self._layout["width"] or 0)

    def _feeds(self, positions: NDArray[np.int64], turn: int = 0) -> Arrays:
        return {
            name: self._padded(name, [column[int(position)].values[turn].values.to_numpy() for position in positions])
            for name, column in self._columns.items()
        }

    def run(self, session: Session, batch: Batch) -> Iterator[Ran]:
        """Run every sequence of every row of a batch, the first ones first.

        After these, rows are run together only if the user wrote a batch size: else nothing is padded.
        """
        import numpy as np

        yield Ran(np.arange(len(batch.rows)), 0, batch.feeds, session.run(batch.feeds))
        column = next(iter(self._columns.values()))
        sizes = np.array([len(column[int(position)]) for position in batch.rows])
        for turn in count(1):
            left = np.flatnonzero(sizes > turn)
            if not len(left):
                return
            for rows in [left] if self._batch_size else left[:, None]:
                feeds = self._feeds(batch.rows[rows], turn)
                yield Ran(rows, turn, feeds, session.run(feeds))

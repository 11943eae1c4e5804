"""Step ``predict``: what a model says of every row of prepared data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from hfopt.api.arrays import Array, Integers
from hfopt.api.data import Batch
from hfopt.base.errors import PreconditionFailed
from hfopt.planning.graph import BEGUN
from hfopt.planning.tasks import PredictConfig
from hfopt.worker import predictions
from hfopt.worker.context import Outcome, StepContext, load_options

LARGEST_BATCH = 32
"""Rows of equal length that go in one batch, where the user wrote no batch size."""


def run(step: StepContext) -> Outcome:
    import numpy as np

    from hfopt.measuring.looks import sample

    data = step.data("data")
    said: list[Any] = [None] * len(data)
    labels: list[Any] = [None] * len(data)
    model, config = step.model("model"), load_options(PredictConfig, step.request.config)
    if (first := next(iter(data.batches()), None)) is None:
        raise PreconditionFailed("the data has no rows")
    size = len(first.rows)
    wanted = np.arange(len(data)) if config.share == 1 else sample(len(data), size, config.share)
    begun = step.request.inputs.get(BEGUN)
    before = sample(len(data), size, 2 * config.share) if begun else wanted[:0]
    if begun is not None:
        for column, known in zip((said, labels), predictions.read(step.store.folder(begun)), strict=True):
            for row, value in () if known is None else zip(before, known, strict=True):
                column[row] = value
    left, done = np.setdiff1d(wanted, before), len(before)
    with step.open(model, config.settings.get(model.type)) as session:
        lengths = data.lengths() if session.rows_are_independent else None
        batches = data.batches(None if len(left) == len(data) else left.tolist())
        if lengths is not None:
            groups = alike(lengths[left], LARGEST_BATCH)
            batches = chain.from_iterable(data.batches(left[rows].tolist(), size=len(rows)) for rows in groups)
        for batch in batches:
            for row, prediction in _by_row(batch, data.predict(session, batch), "predictions"):
                said[row] = prediction
            for row, label in () if batch.labels is None else _by_row(batch, batch.labels, "labels"):
                labels[row] = label
            done += len(batch.rows)
            step.progress("rows", done, len(wanted))
    found = [labels[row] for row in wanted]
    predictions.write(step.folder, [said[row] for row in wanted], None if found[0] is None else found)
    return Outcome(report={"rows": done, "batch": size})


def _by_row(batch: Batch, values: Sequence[Any] | Array, what: str) -> Iterable[tuple[int, Any]]:
    """A batch's rows and what belongs to each.

    :raises PreconditionFailed: there are more or fewer of it than rows
    """
    if len(values) != len(batch.rows):
        hint = "what predicts, or yields batches, must yield one for each row"
        raise PreconditionFailed(f"{len(values)} {what} for {len(batch.rows)} rows of a batch", hint=hint)
    return zip(batch.rows, values, strict=True)


def alike(lengths: Integers, largest: int) -> Iterator[list[int]]:
    """Rows of equal length together, at most `largest` of them: nothing is padded, so nothing changes but the time.

    :param lengths: of each row, [n]
    """
    import numpy as np

    order = np.argsort(lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order])) + 1
    for group in np.split(order, ends):
        for start in range(0, len(group), largest):
            yield group[start : start + largest].tolist()

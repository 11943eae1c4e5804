"""Step ``predict``: what a model says of every row of prepared data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from hfopt.api.arrays import Array, Integers
from hfopt.api.data import Batch
from hfopt.base.errors import PreconditionFailed
from hfopt.planning.tasks import PredictConfig
from hfopt.worker import predictions
from hfopt.worker.context import Outcome, StepContext, load_options

LARGEST_BATCH = 32
"""Rows of equal length that go in one batch, where the user wrote no batch size."""


def run(step: StepContext) -> Outcome:
    data = step.data("data")
    said: list[Any] = [None] * len(data)
    labels: list[Any] = [None] * len(data)
    done = 0
    model, config = step.model("model"), load_options(PredictConfig, step.request.config)
    with step.open(model, config.settings.get(model.type)) as session:
        lengths = data.lengths() if session.rows_are_independent else None
        batches = data.batches()
        if lengths is not None:
            groups = alike(lengths, LARGEST_BATCH)
            batches = chain.from_iterable(data.batches(rows, size=len(rows)) for rows in groups)
        for batch in batches:
            for row, prediction in _by_row(batch, data.predict(session, batch), "predictions"):
                said[row] = prediction
            for row, label in () if batch.labels is None else _by_row(batch, batch.labels, "labels"):
                labels[row] = label
            done += len(batch.rows)
            step.progress("rows", done, len(data))
    if not done:
        raise PreconditionFailed("the data has no rows")
    predictions.write(step.folder, said, None if labels[0] is None else labels)
    return Outcome(report={"rows": done})


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

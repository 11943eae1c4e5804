"""Step ``predict``: what a model says of every row of prepared data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from hfopt.api.arrays import Integers
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
            for row, prediction in zip(batch.rows, data.predict(session, batch), strict=True):
                said[row] = prediction
            for row, label in zip(batch.rows, () if batch.labels is None else batch.labels, strict=False):
                labels[row] = label
            done += len(batch.rows)
            step.progress("rows", done, len(data))
    if not done:
        raise PreconditionFailed("the data has no rows")
    predictions.write(step.folder, said, None if labels[0] is None else labels)
    return Outcome(report={"rows": done})


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

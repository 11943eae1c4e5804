"""Step ``data``: a dataset loaded and preprocessed once, shared by calibration, evaluation and every candidate."""

from __future__ import annotations

from hfopt.api.data import DataContainer, DataContext
from hfopt.base.errors import PreconditionFailed
from hfopt.worker.context import Outcome, StepContext


def run(step: StepContext) -> Outcome:
    container: DataContainer = step.component("hfopt_data_containers")
    container.prepare(DataContext(step.folder, step.progress))
    data = container.open(step.folder)
    first = next(iter(data.batches([0])), None) if len(data) else None
    if first is None:
        raise PreconditionFailed("the data has no rows")
    return Outcome(report={"rows": len(data), "labelled": first.labels is not None})

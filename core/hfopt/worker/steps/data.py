"""Step ``data``: a dataset loaded and preprocessed once, shared by calibration, evaluation and every candidate."""

from __future__ import annotations

from hfopt.api.data import DataContainer, DataContext
from hfopt.worker.context import Outcome, StepContext


def run(step: StepContext) -> Outcome:
    container: DataContainer = step.component("hfopt_data_containers")
    container.prepare(DataContext(step.folder, step.progress))
    return Outcome(report={"rows": len(container.open(step.folder))})

"""Step ``data``: a dataset loaded and preprocessed once, shared by calibration, evaluation and every candidate."""

from __future__ import annotations

from hfopt.api.data import DataContainer, DataContext
from hfopt.steps.outcome import Bench, Outcome


def run(bench: Bench) -> Outcome:
    container: DataContainer = bench.component("hfopt_data_containers")
    container.prepare(DataContext(bench.folder, bench.progress))
    return Outcome(report={"rows": len(container.open(bench.folder))})

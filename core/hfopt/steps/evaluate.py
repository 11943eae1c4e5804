"""Step ``evaluate``: a model's accuracy on prepared rows, with intervals, paired with a baseline on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from hfopt.api.config import Config
from hfopt.api.metrics import MetricBackend, Statistic
from hfopt.errors import PreconditionFailed
from hfopt.plugins import Plugins
from hfopt.steps.outcome import Bench, Outcome, revive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS = "rows.npz"


class MetricRequest(Config):
    """One figure to compute."""

    key: str = Field(description="Its key in run.json.")
    backend: str = Field(description="plugin:Name of the metric backend.")
    name: str = Field(description="The figure's name in the backend.")
    options: dict[str, Any] = Field(description="Its options.")


class EvaluateConfig(Config):
    """What an evaluate step is told."""

    metrics: tuple[MetricRequest, ...] = Field(description="The figures wanted.")


def run(bench: Bench) -> Outcome:
    import numpy as np

    config = revive(EvaluateConfig, bench.request.config)
    predictions, references = _predict(bench)
    baseline = None
    if "baseline" in bench.request.inputs:
        baseline = np.load(bench.store.folder(bench.request.inputs["baseline"]) / ROWS)
    rows: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for metric in config.metrics:
        statistic = _statistic(bench.plugins, metric)
        rows[metric.key] = statistic.rows(predictions, references)
        metrics[metric.key] = figure(statistic, rows[metric.key], None if baseline is None else baseline[metric.key])
    np.savez(bench.folder / ROWS, allow_pickle=False, **rows)
    return Outcome(metrics=metrics)


def _predict(bench: Bench) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predictions and references for every row, in order."""
    import numpy as np

    data = bench.data("data")
    predictions, references = [], []
    with bench.open(bench.model("model")) as session:
        done = 0
        for batch in data.batches():
            if batch.labels is None:
                raise PreconditionFailed("the data has no labels", hint="name the label column in label_cols")
            predictions.append(data.post_process(session.run(batch.feeds)))
            references.append(batch.labels)
            done += len(batch.rows)
            bench.progress("rows", done, len(data))
    if not predictions:
        raise PreconditionFailed("the data has no rows")
    return np.concatenate(predictions), np.concatenate(references)


def _statistic(plugins: Plugins, metric: MetricRequest) -> Statistic:
    cls: type[MetricBackend] = plugins.find("hfopt_metric_backends", metric.backend).load()
    return cls().statistic(metric.name, revive(cls.Config, metric.options))


def figure(
    statistic: Statistic, rows: NDArray[np.float64], baseline: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """A metric as run.json has it.

    :param rows: this model's statistics, [n, k]
    :param baseline: the input model's, for the same rows
    """
    from hfopt import statistics

    difference = None
    if statistic.proportion:
        own = statistics.wilson(rows.sum(), len(rows))
        if baseline is not None:
            difference = statistics.newcombe_paired(baseline[:, 0], rows[:, 0])
    else:
        own = statistics.bootstrap(rows, statistic.value)
        if baseline is not None:
            difference = statistics.paired_bootstrap(baseline, rows, statistic.value)
    return {
        **statistics.described(own),
        "n": len(rows),
        "unit": statistic.unit,
        "higher_is_better": statistic.higher_is_better,
        "difference": None if difference is None else statistics.described(difference),
    }

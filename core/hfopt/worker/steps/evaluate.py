"""Step ``evaluate``: a model's accuracy on prepared rows, with intervals, paired with a baseline on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfopt.api.metrics import MetricBackend, Statistic
from hfopt.base.errors import PreconditionFailed
from hfopt.discovery.plugins import Plugins
from hfopt.planning.tasks import EvaluateConfig, MetricRequest
from hfopt.worker.context import Outcome, StepContext, load_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS = "rows.npz"


def run(step: StepContext) -> Outcome:
    import numpy as np

    config = load_options(EvaluateConfig, step.request.config)
    predictions, references = _predict(step)
    baseline = None
    if "baseline" in step.request.inputs:
        baseline = np.load(step.store.folder(step.request.inputs["baseline"]) / ROWS)
    rows: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for metric in config.metrics:
        statistic = _statistic(step.plugins, metric)
        rows[metric.key] = statistic.rows(predictions, references)
        metrics[metric.key] = figure(statistic, rows[metric.key], None if baseline is None else baseline[metric.key])
    np.savez(step.folder / ROWS, allow_pickle=False, **rows)
    return Outcome(metrics=metrics)


def _predict(step: StepContext) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predictions and references for every row, in order."""
    import numpy as np

    data = step.data("data")
    predictions, references = [], []
    with step.open(step.model("model")) as session:
        done = 0
        for batch in data.batches():
            if batch.labels is None:
                raise PreconditionFailed("the data has no labels", hint="name the label column in label_cols")
            predictions.append(data.post_process(session.run(batch.feeds)))
            references.append(batch.labels)
            done += len(batch.rows)
            step.progress("rows", done, len(data))
    if not predictions:
        raise PreconditionFailed("the data has no rows")
    return np.concatenate(predictions), np.concatenate(references)


def _statistic(plugins: Plugins, metric: MetricRequest) -> Statistic:
    cls: type[MetricBackend] = plugins.find("hfopt_metric_backends", metric.backend).load()
    return cls().statistic(metric.name, load_options(cls.Config, metric.options))


def figure(
    statistic: Statistic, rows: NDArray[np.float64], baseline: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """A metric as run.json has it.

    :param rows: this model's statistics, [n, k]
    :param baseline: the input model's, for the same rows
    """
    from hfopt.api import statistics

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

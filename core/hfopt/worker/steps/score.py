"""Step ``score``: metrics of predictions, paired with the input model's. No model is opened."""

from __future__ import annotations

from hfopt.api.arrays import Array
from hfopt.api.metrics import Metric, MetricBackend
from hfopt.base.errors import PreconditionFailed
from hfopt.planning.tasks import MetricRequest, ScoreConfig
from hfopt.worker import predictions
from hfopt.worker.context import Outcome, StepContext, load_options


def run(step: StepContext) -> Outcome:
    config = load_options(ScoreConfig, step.request.config)
    said, labels = _read(step, "predictions")
    before = _read(step, "baseline")[0] if "baseline" in step.request.inputs else None
    return Outcome(metrics={metric.key: _score(step, metric, said, before, labels) for metric in config.metrics})


def _read(step: StepContext, role: str) -> tuple[Array, Array]:
    said, labels = predictions.read(step.store.folder(step.request.inputs[role]))
    if labels is None:
        raise PreconditionFailed("the data has no labels", hint="name the label column in label_cols")
    return said, labels


def _score(step: StepContext, metric: MetricRequest, said: Array, before: Array | None, labels: Array) -> Metric:
    from hfopt.measuring.figures import scored

    cls: type[MetricBackend] = step.plugins.find("hfopt_metric_backends", metric.backend).load()
    options = load_options(cls.Config, step.located(metric.options))
    return scored(cls().statistic(metric.name, options), said, labels, before)

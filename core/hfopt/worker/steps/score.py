"""Step ``score``: metrics of predictions, paired with the input model's. No model is opened."""

from __future__ import annotations

from typing import cast

from hfopt.api.arrays import Array
from hfopt.api.metrics import MetricBackend, Statistic, WholeStatistic
from hfopt.base.errors import PreconditionFailed
from hfopt.planning.tasks import MetricRequest, ScoreConfig
from hfopt.worker import predictions
from hfopt.worker.context import Outcome, StepContext, load_options


def run(step: StepContext) -> Outcome:
    from hfopt.measuring.figures import scored

    config = load_options(ScoreConfig, step.request.config)
    if config.least:
        return _look(step, config)
    said, labels = _read(step, "predictions")
    before = _read(step, "baseline")[0] if "baseline" in step.request.inputs else None
    return Outcome(
        metrics={metric.key: scored(_statistic(step, metric), said, labels, before) for metric in config.metrics}
    )


def _look(step: StepContext, config: ScoreConfig) -> Outcome:
    """Which figures will certainly stay below what they should be, by some rows and a model that was run on all."""
    from hfopt.measuring.looks import ERROR, is_loser, sample

    said, labels = _read(step, "predictions")
    before, every = _read(step, "incumbent")
    batch = step.store.need(step.request.inputs["predictions"]).report["batch"]
    positions, lost = sample(len(every), batch, config.share), []
    for metric in config.metrics:
        statistic = cast("Statistic", _statistic(step, metric))
        known = statistic.rows(before, every)[:, 0]
        differences = statistic.rows(said, labels)[:, 0] - known[positions]
        least = config.least[metric.key] - float(known.mean())
        if is_loser(differences, positions, least, len(every), batch, ERROR / len(config.metrics)):
            lost.append(metric.key)
    return Outcome(report={"rows": len(positions), "of": len(every), "lost": lost})


def _read(step: StepContext, role: str) -> tuple[Array, Array]:
    said, labels = predictions.read(step.store.folder(step.request.inputs[role]))
    if labels is None:
        raise PreconditionFailed("the data has no labels", hint="name the label column in label_cols")
    return said, labels


def _statistic(step: StepContext, metric: MetricRequest) -> Statistic | WholeStatistic:
    cls: type[MetricBackend] = step.plugins.find("hfopt_metric_backends", metric.backend).load()
    options = load_options(cls.Config, step.located(metric.options))
    return cls().statistic(metric.name, options)

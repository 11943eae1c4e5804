"""Step ``score``: metrics of predictions, paired with the input model's. No model is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from hfopt.api.arrays import Array, Floats
from hfopt.api.metrics import Metric, MetricBackend, Statistic, WholeStatistic
from hfopt.base.errors import PreconditionFailed
from hfopt.planning.graph import RIVAL
from hfopt.planning.tasks import MetricRequest, ScoreConfig
from hfopt.worker import predictions
from hfopt.worker.context import Outcome, StepContext, load_options


def run(step: StepContext) -> Outcome:
    from hfopt.measuring.figures import scored

    config = load_options(ScoreConfig, step.request.config)
    wanted = config.metrics
    if config.least:
        return _look(step, config)
    said, labels = _read(step, "predictions")
    before = _read(step, "baseline")[0] if "baseline" in step.request.inputs else None
    if rivals := [_read(step, role)[0] for role in step.request.inputs if role.startswith(RIVAL)]:
        return Outcome(metrics={each.key: _chosen(step, each, [said, *rivals], labels, before) for each in wanted})
    return Outcome(metrics={each.key: scored(_statistic(step, each), said, labels, before) for each in wanted})


def _chosen(
    step: StepContext, metric: MetricRequest, models: Sequence[Array], labels: Array, before: Array | None
) -> Metric:
    """A proportion of the first of some models, with intervals that know that it was chosen as the best of them."""
    import numpy as np

    from hfopt.api.statistics import estimate
    from hfopt.measuring.chosen import of_the_best

    rows = np.stack([_right(step, metric, each, labels) for each in models])
    paired = None if before is None else estimate(of_the_best(rows - _right(step, metric, before, labels), 0))
    own, unit = estimate(of_the_best(rows, 0)).model_dump(), _statistic(step, metric).unit
    return Metric(**own, n=len(labels), unit=unit, difference=paired)


def _look(step: StepContext, config: ScoreConfig) -> Outcome:
    """Which figures will certainly stay below what they should be, by some rows and a model that was run on all."""
    from hfopt.measuring.looks import ERROR, is_loser, sample

    said, labels = _read(step, "predictions")
    before, every = _read(step, "incumbent")
    batch = step.store.need(step.request.inputs["predictions"]).report["batch"]
    positions, lost = sample(len(every), batch, config.share), []
    for metric in config.metrics:
        known = _right(step, metric, before, every)
        differences = _right(step, metric, said, labels) - known[positions]
        least = config.least[metric.key] - float(known.mean())
        if is_loser(differences, positions, least, len(every), batch, ERROR / len(config.metrics)):
            lost.append(metric.key)
    return Outcome(report={"rows": len(positions), "of": len(every), "lost": lost})


def _read(step: StepContext, role: str) -> tuple[Array, Array]:
    said, labels = predictions.read(step.store.folder(step.request.inputs[role]))
    if labels is None:
        raise PreconditionFailed("the data has no labels", hint="name the label column in label_cols")
    return said, labels


def _right(step: StepContext, metric: MetricRequest, said: Array, labels: Array) -> Floats:
    """Which rows are right by a metric that is a proportion: 0 or 1, [n]."""
    return cast("Statistic", _statistic(step, metric)).rows(said, labels)[:, 0]


def _statistic(step: StepContext, metric: MetricRequest) -> Statistic | WholeStatistic:
    cls: type[MetricBackend] = step.plugins.find("hfopt_metric_backends", metric.backend).load()
    options = load_options(cls.Config, step.located(metric.options))
    return cls().statistic(metric.name, options)

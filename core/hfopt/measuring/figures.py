"""From what a model said of each row, or how long it took, to a metric with its interval and paired difference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from hfopt.api import blocks, statistics
from hfopt.api.arrays import Array, Floats
from hfopt.api.metrics import Metric, Statistic, WholeStatistic
from hfopt.api.statistics import Interval
from hfopt.api.timing import LATENCY_FIGURES, TimedFigure
from hfopt.base.errors import PreconditionFailed


def scored(
    statistic: Statistic | WholeStatistic, predictions: Array, references: Array, before: Array | None = None
) -> Metric:
    """A metric of one model.

    :param predictions: one for each row
    :param before: the input model's, for the same rows
    :raises PreconditionFailed: predictions and references don't suit the metric, or don't define it
    """
    if isinstance(statistic, WholeStatistic):
        own, paired = _recomputed(statistic, predictions, references, before)
        n = len(references) if statistic.of_rows else None
        return _metric(own, paired, n, statistic.unit, higher_is_better=statistic.higher_is_better)
    rows = statistic.rows(predictions, references)
    baseline = None if before is None else statistic.rows(before, references)
    if statistic.proportion:
        own = statistics.wilson(rows.sum(), len(rows))
        paired = None if baseline is None else statistics.tango(baseline[:, 0], rows[:, 0])
    else:
        own = statistics.bootstrap(rows, statistic.value)
        paired = None if baseline is None else statistics.paired_bootstrap(baseline, rows, statistic.value)
    return _metric(own, paired, len(rows), statistic.unit, higher_is_better=statistic.higher_is_better)


def _recomputed(
    statistic: WholeStatistic, predictions: Array, references: Array, before: Array | None
) -> tuple[Interval, Interval | None]:
    """A metric of all rows and its difference, with percentile bootstrap intervals from the same resamples."""
    models = [predictions] if before is None else [predictions, before]
    exact = np.array([statistic.value(model, references) for model in models])
    if np.isnan(exact).any():
        raise PreconditionFailed(f"{len(references)} rows with such labels and predictions do not define this metric")
    random, n = np.random.default_rng(0), len(references)
    drawn = [random.integers(0, n, n) for _ in range(statistic.resamples)]
    found = [[statistic.value(model[rows], references[rows]) for model in models] for rows in drawn]
    resampled = np.array(found) if found else exact[None]
    own = statistics.percentile_interval(float(exact[0]), resampled[:, 0])
    if before is None:
        return own, None
    return own, statistics.percentile_interval(float(exact[0] - exact[1]), resampled[:, 0] - resampled[:, 1])


def _metric(own: Interval, paired: Interval | None, n: int | None, unit: str, *, higher_is_better: bool) -> Metric:
    difference = None if paired is None else statistics.estimate(paired)
    about = {"n": n, "unit": unit, "higher_is_better": higher_is_better, "difference": difference}
    return Metric(**statistics.estimate(own).model_dump(), **about)


def timed(timings: Floats, rows: list[int], wanted: TimedFigure) -> tuple[Metric, Metric]:
    """One figure of two models that were timed against each other: of the first, and of the second.

    A figure that a single round can't tell, such as a high quantile or an extreme, has no interval.

    :param timings: milliseconds, [2, blocks, runs in a block]
    :param rows: rows in each batch; run i took batch i modulo their number
    """
    values = timings
    if wanted.kind == "throughput":
        values = 1_000 * np.resize(rows, timings[0].shape) / timings
    reduce = reduction(wanted)
    unit, higher = {"latency": ("ms", False), "throughput": ("rows/s", True)}[wanted.kind]
    exact = [float(reduce(model.reshape(-1))) for model in values]
    rounds = blocks.by_rounds(values)
    told = reduce(rounds) if _told_by(rounds.shape[2], LATENCY_FIGURES[wanted.name]) else np.empty((2, 0))
    first, second = map(blocks.around, exact, told)
    paired = blocks.around(exact[1] - exact[0], told[1] - told[0])
    over, under = (1, 0) if higher else (0, 1)
    ratio = blocks.ratio(told[over], told[under]) or statistics.Interval(*[exact[over] / exact[under]] * 3)
    metric = partial(_metric, n=values[0].size, unit=unit, higher_is_better=higher)
    return metric(first, None), metric(second, paired).model_copy(update={"speedup": statistics.estimate(ratio)})


def _told_by(runs: int, figure: float | str) -> bool:
    """Whether so many runs tell a figure: the mean, or a quantile with some of them beyond it."""
    return figure == "mean" or (isinstance(figure, float) and min(figure, 1 - figure) * runs >= 1)


def reduction(wanted: TimedFigure) -> Callable[[Floats], Floats]:
    """How runs become one figure, over the last axis. The average of rates is harmonic: all rows over all time."""
    kind = LATENCY_FIGURES[wanted.name]
    if isinstance(kind, float):
        return partial(np.quantile, q=kind, axis=-1)
    if kind == "mean" and wanted.kind == "throughput":
        return lambda rates: 1 / np.mean(1 / rates, axis=-1)
    return partial(getattr(np, kind), axis=-1)

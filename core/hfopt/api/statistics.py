"""Intervals: how sure a number is, and a difference between two models on the same rows.

NumPy only. All intervals are two-sided 95 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hfopt.api.arrays import Floats
from hfopt.api.metrics import Estimate

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
RESAMPLES = 10_000


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def estimate(interval: Interval) -> Estimate:
    """The interval as results have it.

    Without ends if they coincide: resamples that are all alike, as of rows on which two models never differ or of a
    single block of timings, don't tell how sure the value is.
    """
    certain = interval.low < interval.high
    return Estimate(**interval._asdict()) if certain else Estimate(value=interval.value)


def wilson(successes: float, n: int) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927).

    :param n: rows, at least 1
    """
    p = successes / n
    denominator = 1 + Z**2 / n
    middle = (p + Z**2 / (2 * n)) / denominator
    half = Z / denominator * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def tango(first: Floats, second: Floats) -> Interval:
    """Difference of two proportions on the same rows, second minus first: the score interval of Tango (1998).

    Only the rows on which the models disagree count, and how many rows there are. It needs no correction for few of
    them: with none at all it is ±z²/(n + z²).

    :param first: 0 or 1 per row, [n]
    :param second: 0 or 1 for the same rows, [n]
    """
    n, gained, lost = len(first), float(((1 - first) * second).sum()), float((first * (1 - second)).sum())
    value = (gained - lost) / n

    def beyond(difference: float) -> bool:
        """Whether the score test refuses a difference."""
        half = (gained + lost - (2 * n - gained + lost) * difference) / (4 * n)
        kept = half + (half**2 + lost * difference * (1 - difference) / (2 * n)) ** 0.5
        variance = n * (2 * kept + difference * (1 - difference))
        return bool((gained - lost - n * difference) ** 2 > Z**2 * variance)

    return Interval(value, _boundary(beyond, -1.0, value), _boundary(beyond, 1.0, value))


def _boundary(refused: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where a test begins to refuse, between a value that it takes and one at the end, by bisection."""
    for _ in range(50):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if refused(middle) else (outside, middle)
    return inside


def bootstrap_sums(rows: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Sums of `rows` over bootstrap resamples.

    Rows that are alike are drawn together: how often each distinct row occurs in a resample is multinomial, so that
    the cost depends on how many distinct rows there are.

    :param rows: [n, k]
    :return: [resamples, k]
    """
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // len(distinct))
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    return np.concatenate([random.multinomial(len(rows), counts / len(rows), size) @ distinct for size in sizes])


def bootstrap(rows: Floats, value: Callable[[Floats, int], Floats], seed: int = 0) -> Interval:
    """A function of sums over rows, with its percentile bootstrap interval (Efron 1979).

    :param rows: [n, k]
    :param value: vectorised over the first axis of [..., k]
    """
    n = len(rows)
    return percentile_interval(float(value(rows.sum(axis=0), n)), value(bootstrap_sums(rows, seed), n))


def paired_bootstrap(first: Floats, second: Floats, value: Callable[[Floats, int], Floats], seed: int = 0) -> Interval:
    """Difference of a function of sums, second minus first, with the same rows drawn for both.

    :param first: [n, k]
    :param second: [n, k], the same rows
    """
    n, k = first.shape
    sums = bootstrap_sums(np.concatenate([first, second], axis=1), seed)
    exact = float(value(second.sum(axis=0), n)) - float(value(first.sum(axis=0), n))
    return percentile_interval(exact, value(sums[:, k:], n) - value(sums[:, :k], n))


def percentile_interval(value: float, resampled: Floats) -> Interval:
    """The middle 95 % of what resamples gave."""
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high))

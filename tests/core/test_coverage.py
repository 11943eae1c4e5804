"""How often intervals of accuracies hold the truth: by enumeration, or by simulation where rows are resampled."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from hfopt.api import statistics
from hfopt.api.statistics import bootstrap, bootstrap_sums, paired_bootstrap, tango, wilson

SIZES = (100, 200, 400, 1_000, 2_000, 4_000)
FLIPS = (0.005, 0.01, 0.02, 0.05, 0.1)
SHARES = (0.5, 0.35, 0.2, 0.05)
"""Of the rows on which two models disagree, those on which the second is right."""


def disagreeing(n, gained, lost):
    """Two models of which the second is right on `gained` more rows, and the first on `lost`."""
    first, second = np.ones(n), np.ones(n)
    first[:gained], second[gained : gained + lost] = 0, 0
    return first, second


def covered(n, flips, share):
    """The probability that Tango's interval holds the true difference: over all that can be seen of n rows."""
    truth, total = flips * (2 * share - 1), 0.0
    counts = np.arange(stats.binom.ppf(1e-5, n, flips), stats.binom.ppf(1 - 1e-5, n, flips) + 1, dtype=int)
    for count in counts:
        gains = np.arange(stats.binom.ppf(1e-4, count, share), stats.binom.ppf(1 - 1e-4, count, share) + 1, dtype=int)
        for gained in gains:
            _, low, high = found(n, gained, count - gained)
            if low <= truth <= high:
                total += stats.binom.pmf(count, n, flips) * stats.binom.pmf(gained, count, share)
    return total


@cache
def found(n, gained, lost):
    return tango(*disagreeing(n, gained, lost))


def restricted(n, gained, lost, difference):
    """The score statistic of a difference, its nuisance parameter found by maximizing the likelihood numerically."""
    same = n - gained - lost

    def unlikely(only_first):
        parts = (only_first + difference, only_first, 1 - 2 * only_first - difference)
        return -sum(count * np.log(max(part, 1e-300)) for count, part in zip((gained, lost, same), parts, strict=True))

    least, most = max(0, -difference), (1 - difference) / 2
    only_first = optimize.minimize_scalar(unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * difference) / np.sqrt(n * (2 * only_first + difference * (1 - difference)))


@settings(deadline=None, max_examples=60)
@given(st.integers(20, 300), st.integers(0, 12), st.integers(0, 8))
def test_tangos_interval_ends_where_the_score_test_of_a_numerical_fit_does(n, gained, lost):
    found = tango(*disagreeing(n, gained, lost))

    assert found.value == pytest.approx((gained - lost) / n)
    assert found.low < found.value < found.high
    assert restricted(n, gained, lost, found.low) == pytest.approx(stats.norm.ppf(0.975), abs=1e-3)
    assert restricted(n, gained, lost, found.high) == pytest.approx(-stats.norm.ppf(0.975), abs=1e-3)


@pytest.mark.parametrize("n", [1, 10, 4_000])
def test_models_that_agree_on_all_rows_differ_by_little(n):
    z = stats.norm.ppf(0.975)
    found = tango(*disagreeing(n, 0, 0))

    assert (found.low, found.high) == pytest.approx((-z * z / (n + z * z), z * z / (n + z * z)))


@pytest.mark.parametrize(("gained", "lost"), [(9, 0), (0, 9)])
def test_models_that_disagree_on_all_rows_differ_by_one_at_most(gained, lost):
    found = tango(*disagreeing(9, gained, lost))

    assert -1 <= found.low <= found.value <= found.high <= 1
    assert abs(found.value) == 1


@pytest.mark.parametrize("n", SIZES)
def test_tangos_interval_holds_the_truth_in_93_to_97_of_100_where_ten_rows_or_more_are_flipped(n):
    held = [covered(n, flips, share) for flips in FLIPS for share in SHARES if n * flips >= 10]

    assert all(0.93 <= each <= 0.97 for each in held)


def test_with_fewer_flips_it_holds_the_truth_more_often_never_much_less():
    held = [covered(n, flips, share) for n in SIZES for flips in FLIPS for share in SHARES if n * flips < 10]

    assert min(held) >= 0.93
    assert np.mean(held) < 0.985


@pytest.mark.parametrize("n", SIZES)
def test_wilsons_interval_holds_the_truth_in_93_to_97_of_100_of_the_usual_accuracies(n):
    held = []
    for p in np.linspace(0.5, 0.95, 10):
        counts = np.arange(n + 1)
        holds = [low <= p <= high for _, low, high in (wilson(count, n) for count in counts)]
        held.append(stats.binom.pmf(counts, n, p)[holds].sum())

    assert min(held) >= 0.93
    assert max(held) <= 0.97


def f1(sums, n):
    return 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1)


def f1_rows(labels, said):
    return np.stack([labels * said, labels, said], axis=1)


@pytest.mark.parametrize("n", [400, 1_000])
def test_the_bootstraps_of_f1_and_of_its_paired_difference_hold_the_truth_in_93_to_97_of_100(n, monkeypatch):
    monkeypatch.setattr(statistics, "bootstrap_sums", partial(bootstrap_sums, resamples=500))  # sooner done
    random = np.random.default_rng(14)

    def drawn(count):
        labels = (random.random(count) < 0.4).astype(float)
        first = np.where(random.random(count) < 0.15, 1 - labels, labels)
        second = np.where(random.random(count) < 0.1, 1 - first, first)
        return f1_rows(labels, first), f1_rows(labels, second)

    one, two = (float(f1(rows.sum(axis=0), 1)) for rows in drawn(2_000_000))
    own, paired = [], []
    for _ in range(1_000):
        first, second = drawn(n)
        _, low, high = bootstrap(first, f1)
        own.append(low <= one <= high)
        _, low, high = paired_bootstrap(first, second, f1)
        paired.append(low <= two - one <= high)

    assert 0.93 <= np.mean(own) <= 0.97
    assert 0.93 <= np.mean(paired) <= 0.97

"""Intervals against SciPy and simulation; timing blocks; example inputs; parity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hfopt import Session, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.api.metrics import Estimate
from hfopt.api.parity import compare, describe, record
from hfopt.api.statistics import (
    bootstrap,
    bootstrap_sums,
    estimate,
    paired_bootstrap,
    tango,
    wilson,
)
from hfopt.api.timing import spread
from hfopt.worker.stopwatch import split


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys(counts):
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(method="wilson")

    found = wilson(successes, n)

    assert (found.value, found.low, found.high) == pytest.approx((successes / n, expected.low, expected.high), abs=1e-9)


def pairs(random, n, p, flip):
    """Two models on the same rows: the second disagrees with the first on a share of them."""
    first = (random.random(n) < p).astype(float)
    second = np.where(random.random(n) < flip, 1 - first, first)
    return first, second


@pytest.mark.parametrize(("p", "flip"), [(0.8, 0.05), (0.5, 0.2), (0.9, 0.1)])
def test_a_paired_interval_holds_the_true_difference_in_95_of_100_simulations(p, flip):
    random = np.random.default_rng(5)
    truth = flip * (1 - 2 * p)
    held = []
    for _ in range(1_500):
        interval = tango(*pairs(random, 200, p, flip))
        held.append(interval.low <= truth <= interval.high)

    assert 0.93 < np.mean(held) < 0.98


def test_a_paired_interval_turns_round_with_its_models_and_is_narrower_than_an_unpaired_one():
    first, second = pairs(np.random.default_rng(1), 1_000, 0.8, 0.04)

    forth, back = tango(first, second), tango(second, first)

    assert forth == pytest.approx((-back.value, -back.high, -back.low))
    one, two = wilson(first.sum(), 1_000), wilson(second.sum(), 1_000)
    assert forth.high - forth.low < 0.5 * ((one.high - one.low) ** 2 + (two.high - two.low) ** 2) ** 0.5


def test_two_models_that_agree_everywhere_differ_by_nothing():
    rows = (np.random.default_rng(2).random(400) < 0.7).astype(float)

    assert tango(rows, rows).value == 0
    assert tango(rows, rows).low <= 0 <= tango(rows, rows).high
    same = paired_bootstrap(rows[:, None], rows[:, None], lambda sums, n: sums[..., 0] / n)
    assert same == (0, 0, 0)
    assert estimate(same) == Estimate(value=0)


def test_the_bootstrap_of_a_mean_is_the_normal_interval():
    rows = np.random.default_rng(3).normal(5, 2, size=(2_000, 1))

    found = bootstrap(rows, lambda sums, n: sums[..., 0] / n)

    half = 1.96 * rows.std() / 2_000**0.5
    assert (found.low, found.high) == pytest.approx((rows.mean() - half, rows.mean() + half), abs=0.1 * half)


def test_drawing_alike_rows_together_is_drawing_rows_with_replacement():
    random = np.random.default_rng(4)
    rows = random.integers(0, 2, size=(300, 2)).astype(float)
    naive = np.array([rows[random.integers(300, size=300)].sum(axis=0) for _ in range(4_000)])

    grouped = bootstrap_sums(rows, seed=0, resamples=4_000)

    assert grouped.mean(axis=0) == pytest.approx(naive.mean(axis=0), rel=0.01)
    assert grouped.std(axis=0) == pytest.approx(naive.std(axis=0), rel=0.06)
    assert np.corrcoef(grouped.T)[0, 1] == pytest.approx(np.corrcoef(naive.T)[0, 1], abs=0.06)


@given(st.integers(1, 3_000))
def test_blocks_add_up_to_exactly_the_runs_that_were_asked_for(runs):
    blocks, size = split(runs)

    assert blocks * size == runs
    assert blocks >= min(4, runs)


@given(st.integers(1, 5_000), st.integers(1, 100))
def test_rows_to_time_are_distinct_and_spread_over_all(total, wanted):
    rows = spread(total, wanted)

    assert len(set(rows)) == len(rows) == min(total, wanted)
    assert rows[0] == 0
    assert max(rows) < total


AXES = ("batch_size", "sequence_length")
SPECS = (
    TensorSpec(name="input_ids", dtype="int64", axes=AXES, high=30),
    TensorSpec(name="attention_mask", dtype="int64", axes=AXES, high=2),
    TensorSpec(name="pixels", dtype="float32", axes=("batch_size", 3)),
)


def test_examples_are_of_the_stated_type_shape_and_range_and_padded_on_both_sides():
    feeds = example_feeds(SPECS, {"batch_size": 4, "sequence_length": 5}, padded=True)

    assert (feeds["input_ids"].dtype, feeds["input_ids"].shape) == (np.int64, (4, 5))
    assert 0 <= feeds["input_ids"].min() <= feeds["input_ids"].max() < 30
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert (feeds["pixels"].dtype, feeds["pixels"].shape) == (np.float32, (4, 3))


class Fixed(Session):
    """Returns what a function makes of the ids and the mask."""

    inputs = outputs = ()

    def __init__(self, function):
        self.function = function

    def run(self, feeds):
        return {"hidden": self.function(feeds["input_ids"].astype(np.float32), feeds["attention_mask"])}

    def bind(self, feeds):
        return lambda: None

    @property
    def live(self):
        return None


PARITY = {
    "equal": (lambda ids, mask: ids, True),
    "within the tolerance": (lambda ids, mask: ids * (1 + 5e-5), True),
    "outside the tolerance": (lambda ids, mask: ids * (1 + 5e-4), False),
    "different at padded positions only": (lambda ids, mask: ids + 100 * (1 - mask), True),
    "not a number": (lambda ids, mask: ids * np.nan, False),
    "another shape": (lambda ids, mask: ids[:, :-1], False),
}


@pytest.mark.parametrize("case", PARITY)
def test_models_agree_up_to_the_tolerance_at_positions_that_are_not_padded(case):
    function, agree = PARITY[case]

    def three_dimensional(function):
        return Fixed(lambda ids, mask: function(ids, mask)[..., None])

    report = compare(record(three_dimensional(lambda ids, mask: ids), SPECS[:2]), three_dimensional(function))

    assert report["agree"] is agree
    assert agree or describe(report).startswith("hidden differs by ")


def test_models_without_a_common_output_do_not_agree():
    class Other(Fixed):
        def run(self, feeds):
            return {"other": feeds["input_ids"]}

    report = compare(record(Fixed(lambda ids, mask: ids), SPECS[:2]), Other(None))

    assert report["agree"] is False
    assert describe(report) == "no output is common to both"

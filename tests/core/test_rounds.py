"""Timings in rounds: intervals of ratios under drift, and when to stop, by simulation; Student's quantile by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats

from hfopt.api.blocks import (
    FINAL_ROUNDS,
    FINAL_SECONDS,
    PILOT,
    around,
    by_rounds,
    ratio,
    rounds_needed,
    settled,
    student_t,
)
from hfopt.api.timing import FIGURES, ROUND_RUNS, TimedFigure, mixed
from hfopt.measuring.figures import timed

ROUNDS, RUNS = 16, 8
TIMES, SIMULATIONS = 4.0, 1_500
COSTS = np.random.default_rng(0).lognormal(0, 0.4, 64)
ROWS = COSTS[mixed([int(1e6 * cost) for cost in COSTS])]


def walk(random, runs, memory, size):
    """A stationary drift of the machine's speed that forgets itself after `memory` runs."""
    kept = np.exp(-1 / memory)
    steps = random.normal(0, size * np.sqrt(1 - kept**2), runs)
    steps[0] = random.normal(0, size)
    return signal.lfilter([1], [1, -kept], steps)


DRIFTS = {
    "none": lambda random, runs: np.zeros(runs),
    "within blocks": lambda random, runs: walk(random, runs, RUNS, 0.05),
    "between blocks": lambda random, runs: walk(random, runs, runs / 4, 0.1),
    "slower than the measurement": lambda random, runs: walk(random, runs, 4 * runs, 0.2),
    "steady": lambda random, runs: np.linspace(0, random.normal(0, 0.3), runs),
    "a step": lambda random, runs: np.where(np.arange(runs) > random.integers(runs), 0.3, 0),
}
NOISES = {"quiet": (0.03, 0.0), "noisy": (0.1, 0.02)}


def simulated(random, drift, noise):
    """Blocks of a model, and of one that is four times as fast, on a machine that drifts and stalls."""
    spread, stalls = NOISES[noise]
    speed = np.exp(DRIFTS[drift](random, 4 * ROUNDS * RUNS)).reshape(2 * ROUNDS, 2, RUNS)
    speed[1::2] = speed[1::2, ::-1]
    costs = np.resize(ROWS, (2 * ROUNDS, 1, RUNS))
    stalled = 1 + np.where(random.random(speed.shape) < stalls, random.exponential(1, speed.shape), 0)
    blocks = costs * speed * np.exp(random.normal(0, spread, speed.shape)) * stalled
    blocks[:, 1] /= TIMES
    return blocks.swapaxes(0, 1)


def stopped(blocks):
    """What there is when timing ends by itself."""
    medians = np.median(by_rounds(blocks), axis=-1)
    return blocks[:, : 2 * rounds_needed(*medians)]


@pytest.mark.parametrize("early", [True, False], ids=["early stop", "to the end"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("drift", DRIFTS)
def test_the_speed_ups_interval_holds_the_truth_in_93_to_97_of_100(drift, noise, early):
    random = np.random.default_rng(list(DRIFTS).index(drift))
    held = []
    for _ in range(SIMULATIONS):
        blocks = simulated(random, drift, noise)
        found = ratio(*np.median(by_rounds(stopped(blocks) if early else blocks), axis=-1))
        held.append(found.low <= TIMES <= found.high)

    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize("name", ["avg", "p75", "p90"])
def test_so_do_the_intervals_of_other_figures_that_a_round_can_tell(name):
    random = np.random.default_rng(7)
    wanted = TimedFigure(kind="latency", name=name)
    held = []
    for _ in range(SIMULATIONS):
        _, faster = timed(stopped(simulated(random, "between blocks", "quiet")), [1], wanted)
        held.append(faster.speedup.low <= TIMES <= faster.speedup.high)

    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize("drift", ["none", "between blocks", "steady"])
def test_a_models_own_interval_is_for_the_time_of_its_measurement_and_rather_too_wide(drift):
    random = np.random.default_rng(8)
    held = []
    for _ in range(20):
        speed = np.exp(DRIFTS[drift](random, ROUNDS * 2 * RUNS))
        runs = np.resize(ROWS, speed.shape) * speed * np.exp(random.normal(0, 0.1, (200, len(speed))))
        truth = np.median(runs, axis=-1).mean()
        rounds = np.median(runs.reshape(200, ROUNDS, 2 * RUNS), axis=-1)
        found = [around(float(np.median(each)), own) for each, own in zip(runs, rounds, strict=True)]
        held += [each.low <= truth <= each.high for each in found]

    assert np.mean(held) >= 0.93


def test_timing_stops_at_the_round_that_the_first_six_ask_for_and_not_before():
    blocks = simulated(np.random.default_rng(9), "none", "quiet")
    needed = rounds_needed(*np.median(by_rounds(blocks), axis=-1))
    stops = [count for count in range(1, ROUNDS + 1) if settled(blocks[:, : 2 * count])]

    assert PILOT < needed < ROUNDS
    assert stops == list(range(needed, ROUNDS + 1))
    found = ratio(*np.median(by_rounds(stopped(blocks)), axis=-1))
    assert found.high / found.value < 1.025


def test_where_runs_hardly_differ_the_pilot_is_enough():
    random = np.random.default_rng(10)
    blocks = np.array([8.0, 2.0])[:, None, None] * random.uniform(1, 1.001, (2, 2 * PILOT, RUNS))

    assert settled(blocks)
    assert not settled(blocks[:, :-2])


def test_where_the_most_rounds_would_not_do_timing_stops_after_eight():
    random = np.random.default_rng(12)
    blocks = np.array([8.0, 2.0])[:, None, None] * np.exp(random.normal(0, 0.5, (2, 2 * ROUNDS, RUNS)))

    stops = [count for count in range(1, ROUNDS + 1) if settled(blocks[:, : 2 * count])]

    assert rounds_needed(*np.median(by_rounds(blocks), axis=-1)) > ROUNDS
    assert stops[0] == 8


def test_what_decides_between_two_models_is_timed_until_it_is_known_or_for_a_minute():
    random = np.random.default_rng(13)
    uneasy = np.exp(random.normal(0, 0.1, (2, 2 * FINAL_ROUNDS, RUNS)))

    def stops(milliseconds):
        blocks = milliseconds * uneasy
        return next(count for count in range(1, FINAL_ROUNDS + 1) if settled(blocks[:, : 2 * count], FINAL_ROUNDS))

    needed = rounds_needed(*np.median(by_rounds(uneasy), axis=-1))
    assert ROUNDS < needed < FINAL_ROUNDS
    assert stops(4) == needed
    rounds = 1_000 * FINAL_SECONDS / uneasy.sum() * FINAL_ROUNDS / 100
    assert stops(100) == pytest.approx(rounds / 2, rel=0.1)
    assert stops(10_000) == ROUNDS / 2


@pytest.mark.parametrize("freedom", [3, 5, 9, 15, 100])
def test_students_quantile_is_scipys_within_one_per_cent(freedom):
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)


def test_every_round_has_rows_of_all_sizes():
    sizes = np.random.default_rng(11).permutation(64)
    order = mixed(sizes.tolist())

    assert sorted(order) == list(range(64))
    rounds = sizes[order].reshape(-1, ROUND_RUNS)
    assert np.ptp(np.median(rounds, axis=1)) <= 4
    assert mixed([3, 1, 2]) == [1, 2, 0]


@pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure not in ("mean", 0.5, 0.75, 0.9)])
def test_a_figure_that_a_round_can_not_tell_has_no_interval(name):
    blocks = simulated(np.random.default_rng(12), "none", "quiet")
    slow, fast = timed(blocks, [1], TimedFigure(kind="latency", name=name))

    assert (slow.low, fast.low, fast.difference.low, fast.speedup.low) == (None,) * 4
    assert fast.speedup.value == pytest.approx(slow.value / fast.value)


def test_throughput_and_latency_tell_the_same_speed_up():
    blocks = simulated(np.random.default_rng(13), "none", "quiet")
    _, latency = timed(blocks, [1], TimedFigure(kind="latency", name="p50"))
    _, throughput = timed(blocks, [1], TimedFigure(kind="throughput", name="p50"))

    assert throughput.speedup.value == pytest.approx(latency.speedup.value, rel=0.02)
    assert latency.speedup.low < TIMES < latency.speedup.high


def test_too_few_rounds_have_no_interval():
    slow, fast = timed(
        np.array([8.0, 2.0])[:, None, None] * np.ones((2, 6, 4)), [1], TimedFigure(kind="latency", name="avg")
    )

    assert fast.speedup.model_dump() == {"value": 4, "low": None, "high": None}
    assert fast.difference.model_dump() == {"value": -6, "low": None, "high": None}
    assert slow.low is None

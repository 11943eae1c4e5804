"""The interval of a model that was chosen as the best of many covers the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from hfopt.api.statistics import tango, wilson
from hfopt.measuring.chosen import of_the_best

ROWS, MODELS, SEARCHES = 2_000, 12, 400


def searched(spread, seed):
    """Many searches: who is right on which row, the input model first, and how often each is right in truth."""
    chance = np.random.default_rng(seed)
    for _ in range(SEARCHES):
        lost = np.clip(0.05 * (1 + spread * chance.standard_normal(MODELS)), 0, 1)
        before, drawn = chance.random(ROWS) < 0.85, chance.random((MODELS, ROWS))
        rows = np.where(before, drawn >= lost[:, None], drawn < 0.2).astype(float)
        yield before.astype(float), rows, 0.85 * (1 - lost) + 0.15 * 0.2


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.6], ids=["all alike", "some better", "one the best"])
def test_the_published_intervals_of_the_chosen_one_cover_93_to_97_of_a_hundred(spread):
    value, difference = 0, 0
    for before, rows, truths in searched(spread, seed=7):
        best = int(rows.mean(axis=1).argmax())
        own, paired = of_the_best(rows, best), of_the_best(rows - before, best)
        assert own.value == rows[best].mean()
        value += own.low <= truths[best] <= own.high
        difference += paired.low <= truths[best] - 0.85 <= paired.high

    assert 0.93 * SEARCHES <= value <= 0.97 * SEARCHES
    assert 0.93 * SEARCHES <= difference <= 0.97 * SEARCHES


def test_the_usual_intervals_of_the_chosen_one_do_not():
    value, difference = 0, 0
    for before, rows, truths in searched(0.0, seed=7):
        best = rows[int(rows.mean(axis=1).argmax())]
        own, paired = wilson(best.sum(), ROWS), tango(before, best)
        value += own.low <= truths[0] <= own.high
        difference += paired.low <= truths[0] - 0.85 <= paired.high

    assert value < 0.9 * SEARCHES
    assert difference < 0.8 * SEARCHES


def test_where_the_best_is_the_best_beyond_doubt_the_interval_is_the_usual_one():
    chance = np.random.default_rng(0)
    rows = (chance.random((4, 1_000)) < np.array([0.5, 0.9, 0.6, 0.4])[:, None]).astype(float)

    found, usual = of_the_best(rows, 1), wilson(rows[1].sum(), 1_000)

    assert found.low == pytest.approx(usual.low, abs=0.002)
    assert found.high == pytest.approx(usual.high, abs=0.002)

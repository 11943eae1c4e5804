"""Looks at growing shares of the rows: what is drawn, and that a look is wrong as seldom as it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt.engine.search import SHARES
from hfopt.measuring.looks import ERROR, is_below, is_loser, sample


@given(st.integers(1, 500), st.integers(1, 9))
def test_a_larger_share_begins_with_a_smaller_one_and_has_whole_batches(rows, batch):
    shares = [sample(rows, batch, share).tolist() for share in (*SHARES, 1)]

    for smaller, larger in pairwise(shares):
        assert larger[: len(smaller)] == smaller
    assert sorted(shares[-1]) == list(range(rows))
    for share in shares:
        assert all({*range(row // batch * batch, min(rows, (row // batch + 1) * batch))} <= {*share} for row in share)


def outcomes(chance, rows, right, lost, gained):
    """Two models on the same rows: whether each is right."""
    one = chance.random(rows) < right
    return one, np.where(one, chance.random(rows) >= lost, chance.random(rows) < gained)


def is_dropped(candidate, best, batch=1, error=ERROR):
    """Whether a search drops a model at some look, because it is worse than the best one."""
    shares = [sample(len(best), batch, share) for share in SHARES]
    differences = candidate.astype(float) - best
    return any(is_loser(differences[rows], rows, 0.0, len(best), batch, error) for rows in shares)


def test_a_model_that_is_just_as_good_is_seldom_dropped_however_often_one_looks():
    chance, error, dropped = np.random.default_rng(1), 0.2, 0
    for _ in range(300):
        differences = chance.permutation(np.repeat([-1.0, 1.0, 0.0], [40, 40, 320]))
        dropped += is_below(differences, 0.0, 400, error)

    assert 0 < dropped < 300 * error


@pytest.mark.parametrize("batch", [1, 8])
def test_dropping_loses_the_best_model_of_a_search_in_less_than_two_of_a_hundred(batch):
    chance, lost, searches = np.random.default_rng(2), 0, 150
    for _ in range(searches):
        right = chance.random(1_024) < 0.9
        losses = 0.04 * chance.random(12)
        models = [np.where(right, chance.random(1_024) >= each, chance.random(1_024) < 0.2) for each in losses]
        best = models[0]
        for each in models[1:]:
            if not is_dropped(each, best, batch) and each.mean() > best.mean():
                best = each
        lost += best.mean() < max(each.mean() for each in models)

    assert lost < 0.02 * searches


@pytest.mark.parametrize(("lost", "share"), [(0.3, 16), (0.1, 8), (0.05, 4)])
def test_a_clear_loser_is_told_by_a_small_share(lost, share):
    chance, told = np.random.default_rng(3), 0
    for _ in range(20):
        best, worse = outcomes(chance, 4_000, 0.9, lost, 0.05)
        rows = sample(4_000, 1, share)
        told += is_loser(worse[rows].astype(float) - best[rows], rows, 0.0, 4_000, 1, ERROR)

    assert told >= 19


def test_rows_that_are_alike_within_a_batch_count_as_one():
    """Whole batches are lost and gained together: each row for itself would be taken for far more than it is."""
    chance, dropped = np.random.default_rng(4), 0
    for _ in range(200):
        differences = np.repeat(chance.permutation(np.repeat([-1.0, 1.0], 32)), 16)
        rows = sample(1_024, 16, 2)
        dropped += is_loser(differences[rows], rows, 0.0, 1_024, 16, 0.1)

    assert dropped < 200 * 0.1

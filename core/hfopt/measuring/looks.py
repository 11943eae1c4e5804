"""Models given up early: which rows are looked at first, and what shows beyond doubt that a model is a loser."""

from __future__ import annotations

import numpy as np

from hfopt.api.arrays import Floats, Integers

ERROR = 0.01
"""The probability that any look at a model that is no loser says that it is one."""
STAKES = np.linspace(0.05, 0.95, 10)
"""Parts of what there is that are bet at once."""


def sample(rows: int, batch: int, share: int) -> Integers:
    """Which rows are looked at: whole batches of the data, in an order drawn at random, always the same one.

    So a row shares its batch with the same rows whenever it is predicted. A larger share begins with a smaller one.

    :param rows: in the data
    :param batch: rows in a batch of the data; the last may have fewer
    :param share: one in so many batches
    :return: int64 [n]
    """
    drawn = np.random.default_rng(0).permutation(-(-rows // batch))
    firsts = drawn[: -(-len(drawn) // share)] * batch
    found: Integers = (firsts[:, None] + np.arange(batch)).reshape(-1)
    return found[found < rows]


def is_loser(differences: Floats, positions: Integers, least: float, rows: int, batch: int, error: float) -> bool:
    """Whether the mean over all rows is certainly below a value, when some batches of them were drawn.

    A batch counts as one row, since rows of one batch may be alike: its sum over the size of a full one.

    :param differences: each at most 1, of the rows at `positions`, [n]
    :param positions: a `sample`
    :param least: the value
    :param rows: of which they were drawn
    :param batch: rows in a batch
    :param error: see `is_below`
    """
    begin, batches = np.flatnonzero(np.diff(positions // batch, prepend=-1)), -(-rows // batch)
    return is_below(np.add.reduceat(differences, begin) / batch, least * rows / (batch * batches), batches, error)


def is_below(differences: Floats, least: float, rows: int, error: float) -> bool:
    """Whether the mean over all rows is certainly below a value, when some were drawn without replacement.

    It is asked as rows come, as often as one likes: all answers together are wrong with a probability of at most
    `error`. Somebody bets, before each row, that it will be lower than the mean of those left would be if the mean over
    all were `least`. Were it that or more, what he has would not grow on average, and would reach 1 / `error` with this
    probability (Ville 1939). He has several purses, each of which bets a fixed part of what it could lose
    (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", J. R. Stat. Soc. B 86(1),
    section 5).

    :param differences: each at most 1, in the order drawn, [n]
    :param least: the value
    :param rows: of which they were drawn
    """
    before = np.cumsum(differences) - differences
    expected = (rows * least - before) / (rows - np.arange(len(differences)))
    room = np.maximum(1 - expected, 1e-9)  # if more than 1 were expected of all that are left, any row wins
    gains = np.log1p(STAKES[:, None] * (expected - differences) / room)
    purses = np.cumsum(gains, axis=1) - np.log(len(STAKES))
    return bool((np.logaddexp.reduce(purses) >= -np.log(error)).any())

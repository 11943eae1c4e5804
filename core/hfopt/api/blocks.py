"""What timings in alternating blocks say: how much faster one model is, and how sure that is.

Blocks of two models lie beside each other in time and change their order (A B, B A, A B...). Two such pairs are a
*round*: a machine that gets slower or faster during a round does so for both models. NumPy only.
"""

from __future__ import annotations

from math import ceil, log1p

import numpy as np

from hfopt.api.arrays import Floats
from hfopt.api.statistics import Interval, Z

PILOT = 6
"""Rounds whose spread says how many are needed."""
MOST_ROUNDS = 16
"""That are worth their time. Half of them where more would be needed: the interval is as wide as it then is."""
FINAL_ROUNDS = 128
"""The same where they decide which of two models is chosen, if they fit into `FINAL_SECONDS`."""
FINAL_SECONDS = 60
FEWEST_ROUNDS = 4
"""For an interval."""
WITHIN = 0.02
"""How far either end of the ratio's interval may be from it where nobody says how often to run, as a part of it."""


def by_rounds(blocks: Floats) -> Floats:
    """The runs of each round together; a last block without a partner is left out.

    :param blocks: [models, blocks, runs in a block]
    :return: [models, rounds, runs in a round]
    """
    models, count, runs = blocks.shape
    return blocks[:, : count // 2 * 2].reshape(models, count // 2, 2 * runs)


def ratio(first: Floats, second: Floats) -> Interval | None:
    """How many times the second model's figure the first's is: the geometric mean of the rounds' ratios.

    The interval is that of Stein's two-stage sample (Stein 1945, Ann. Math. Statist. 16): the spread of the first six
    rounds says how many are needed, and how sure the mean of as many is, which is independent of it; all
    rounds count where they spread more, as after a jump of the machine's speed, or where there are not as many.

    :param first: a figure of each round, [rounds]
    :param second: the other model's, [rounds]
    :return: None for fewer than four rounds
    """
    if len(first) < FEWEST_ROUNDS:
        return None
    logs = np.log(first / second)
    spread = _spread(logs)
    if len(logs) == rounds_needed(first, second):
        spread = max(spread, _spread(logs[:PILOT]))
    half = spread / len(logs) ** 0.5
    return Interval(*(float(np.exp(logs.mean() + shift)) for shift in (0, -half, half)))


def rounds_needed(first: Floats, second: Floats, within: float = WITHIN) -> int:
    """How many rounds make the ratio's interval at most ±`within` of it; at least six, the pilot.

    :param first: as `ratio` has it, of at least the pilot's rounds
    """
    return max(PILOT, ceil((_spread(np.log(first / second)[:PILOT]) / log1p(within)) ** 2))


def settled(blocks: Floats, most: int = MOST_ROUNDS) -> bool:
    """Whether the ratio of medians is known to ±2 %, or the machine is too uneasy to know it so well in good time.

    :param blocks: so far, [2, blocks, runs in a block]
    :param most: rounds that are worth their time, if more than `MOST_ROUNDS` fit into `FINAL_SECONDS`
    """
    medians = np.median(by_rounds(blocks), axis=-1)
    count = len(medians[0])
    if count < PILOT:
        return False
    needed = rounds_needed(*medians)
    most = max(MOST_ROUNDS, min(most, int(1_000 * FINAL_SECONDS * count / blocks.sum())))
    return count >= (needed if needed <= most else most // 2)


def around(value: float, rounds: Floats) -> Interval:
    """A figure with its interval, for the time in which it was measured.

    The spread is that of each round against the next (von Neumann 1941), which a slow drift of the machine changes
    little. What the machine does at another time no interval can tell. Rounds are of rows that differ somewhat in
    length: the interval is rather too wide than too narrow.

    :param value: of all runs
    :param rounds: of each round alone, [rounds]
    """
    count = len(rounds)
    if count < FEWEST_ROUNDS:
        return Interval(value, value, value)
    spread = (np.diff(rounds) ** 2).mean() / 2
    freedom = 2 * (count - 1) ** 2 / (3 * count - 4)
    half = float(student_t(freedom) * (spread / count) ** 0.5)
    return Interval(value, value - half, value + half)


def student_t(freedom: float) -> float:
    """The 97.5 % quantile of Student's distribution, within 1 % from 3 degrees of freedom on.

    From the normal distribution's: Abramowitz and Stegun (1964), 26.7.5.
    """
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    return Z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _spread(logs: Floats) -> float:
    """Half the width of the interval from a single round."""
    return float(student_t(len(logs) - 1) * logs.std(ddof=1))

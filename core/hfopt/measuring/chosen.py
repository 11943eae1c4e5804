"""The interval of a model that was chosen because it did best on the very rows that tell how good it is."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from hfopt.api.arrays import Floats
from hfopt.api.statistics import Interval

_NORMAL = NormalDist()
_MISSED, _TAKEN = 0.05, 0.005
"""How often the interval may miss the truth; and how much of that goes to bounds for all models at once."""


def of_the_best(rows: Floats, best: int) -> Interval:
    """The mean of the model with the highest one, with an interval that knows that it was chosen for that.

    Of many that are alike, the best owes its lead to chance: its usual interval is too high. Here its mean counts as
    a normal variable of which only values above those of the others could have been seen, given what in the others'
    means does not depend on it; and the truth as within the bounds that hold for all models at once (the hybrid
    interval of Andrews, Kitagawa & McCloskey 2024, "Inference on Winners", Q. J. Econ. 139(1)). A mean of rows that are
    right or wrong has steps, so that others are passed half a step below theirs.

    :param rows: outcomes of every model on the same rows, each right or wrong, or a difference of two such,
        [models, n]
    :param best: the model that was chosen: no other has a higher mean
    """
    models, n = rows.shape
    means = rows.mean(axis=1)
    own, centred = float(means[best]), rows - means[:, None]
    shared = centred @ centred[best] / n**2
    if (error := float(np.sqrt(shared[best]))) == 0:
        return Interval(own, own, own)
    slope = shared / shared[best]
    others = (np.arange(models) != best) & (slope != 1)
    passed = (means - 0.5 / n - slope * own)[others] / (1 - slope[others])
    least = max(passed[slope[others] < 1], default=-np.inf)
    most = min(passed[slope[others] > 1], default=np.inf)
    bound = _NORMAL.inv_cdf(1 - _TAKEN / (2 * models))
    tail = (_MISSED - _TAKEN) / (1 - _TAKEN) / 2

    def seen_below(truth: float) -> float:
        """The probability of a mean of at most what it is, among those that could have been seen."""
        low, high = max((least - truth) / error, -bound), min((most - truth) / error, bound)
        below = _NORMAL.cdf(low)
        return (_NORMAL.cdf((own - truth) / error) - below) / (_NORMAL.cdf(high) - below)

    def truth_at(probability: float) -> float:
        low, high = own - bound * error, own + bound * error
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if seen_below(middle) > probability else (low, middle)
        return (low + high) / 2

    return Interval(own, truth_at(1 - tail), truth_at(tail))

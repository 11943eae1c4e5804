"""Metrics of numbers: of heads with one output, such as a similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Statistic, WholeStatistic
from hfopt_hf_metrics.perplexity import refuse_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanSquaredError(Statistic):
    """The mean of squared differences, over all outputs of a row and then over rows.

    :param root: its square root
    """

    root: bool = False
    higher_is_better = False

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        first, second = numbers(predictions, references)
        squares: Floats = (first - second) ** 2
        return squares.reshape(len(squares), -1).mean(axis=1, keepdims=True)

    def value(self, sums: Floats, n: int) -> Floats:
        mean: Floats = sums[..., 0] / n
        return mean**0.5 if self.root else mean


class Pearson(Statistic):
    """Pearson's correlation; 0 where either side is constant.

    Rows are the two numbers, their squares and their product, after the references' mean has been taken from both.
    """

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        x, y = (each.reshape(-1) for each in numbers(predictions, references, one=True))
        x, y = x - y.mean(), y - y.mean()
        return np.stack([x, y, x * x, y * y, x * y], axis=1)

    def value(self, sums: Floats, n: int) -> Floats:
        import numpy as np

        x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        spread = (n * xx - x * x).clip(0) * (n * yy - y * y).clip(0)
        zeros: Floats = np.zeros_like(spread)
        return np.divide(n * xy - x * y, spread**0.5, out=zeros, where=spread > 0)


class Spearman(WholeStatistic):
    """Spearman's rank correlation: Pearson's of ranks, ties at their mean rank."""

    def value(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        import numpy as np

        x, y = (ranks(each.reshape(-1)) for each in numbers(predictions, references, one=True))
        if min(x.std(), y.std()) == 0:
            return float("nan")
        return float(np.corrcoef(x, y)[0, 1])


def ranks(values: NDArray[Any]) -> Floats:
    """The rank of each value, from 1; ties have their mean rank. [n]"""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Floats = last - (counts - 1) / 2
    return means[place]


def numbers(predictions: NDArray[Any], references: NDArray[Any], *, one: bool = False) -> tuple[Floats, Floats]:
    """Predictions and references as numbers of one shape: an output of width 1 is a number.

    :param one: each row has one number
    :raises PreconditionFailed: they don't go together
    """
    refuse_tokens(references)
    first, second = predictions.astype(float), references.astype(float)
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        first = first[..., 0]
    if first.shape != second.shape or (one and first.size != len(first)):
        wanted = "one number per row" if one else "as many numbers per row as labels"
        found = f"predictions are {list(predictions.shape)}, labels {list(references.shape)}"
        raise PreconditionFailed(f"needs {wanted}; {found}")
    return first, second

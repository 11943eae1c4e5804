"""The area under the receiver operating characteristic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, WholeStatistic
from hfopt_hf_metrics.classification import MICRO, SAMPLES
from hfopt_hf_metrics.perplexity import refuse_tokens
from hfopt_hf_metrics.regression import ranks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RocAuc(WholeStatistic):
    """How probably a row of a class has a higher score for it than one of another class (Hanley and McNeil 1982).

    Two classes: the second's score. More: the mean over classes, each against the rest, or of each two of them (Hand
    and Till 2001). Several labels per row: the mean over labels.

    :param average: macro; weighted by how many rows a class has; micro: of all scores together; samples: the mean over
        rows of several labels
    :param pairs: each two classes instead of each against the rest
    """

    average: str = "macro"
    pairs: bool = False

    def value(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        import numpy as np

        refuse_tokens(references)
        scores = _scores(predictions, references)
        several = references.ndim == 2
        if self.average == SAMPLES and not several:
            raise PreconditionFailed("average samples is of several labels per row, and there is one class per row")
        if scores.shape[1] == 2 and not several:
            return _area(scores[:, 1], references == 1)
        classes = np.arange(scores.shape[1])
        truth = references == 1 if several else references[:, None] == classes
        counts = truth.sum(axis=0)
        if self.average == MICRO:
            return _area(scores.ravel(), truth.ravel())
        if self.average == SAMPLES:
            return float(np.mean([_area(*row) for row in zip(scores, truth, strict=True)]))
        if several or not self.pairs:
            return self._mean([_area(*each) for each in zip(scores.T, truth.T, strict=True)], counts)
        areas, weights = [], []
        for first in classes:
            for second in classes[first + 1 :]:
                of_both = np.isin(references, (first, second))
                part, truth = scores[of_both], references[of_both]
                one = _area(part[:, first], truth == first)
                areas.append((one + _area(part[:, second], truth == second)) / 2)
                weights.append(counts[first] + counts[second])
        return self._mean(areas, np.array(weights))

    def _mean(self, areas: list[float], weights: NDArray[Any]) -> float:
        import numpy as np

        return float(np.average(areas, weights=weights if self.average == "weighted" and weights.sum() else None))


def _scores(predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
    """A score of every class for every row, [n, classes]: softmax of logits, which compares between rows."""
    import numpy as np

    if predictions.ndim != 2 or predictions.dtype.kind != "f" or len(predictions) != len(references):
        raise PreconditionFailed(
            f"needs a score per row and class; predictions are {list(predictions.shape)} of {predictions.dtype}"
        )
    logits = predictions.astype(float)
    if references.ndim == 2:
        return logits
    if logits.shape[1] == 1:
        return np.concatenate([-logits, logits], axis=1)
    powers: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _area(scores: Floats, positive: NDArray[Any]) -> float:
    """Mann and Whitney's statistic over the number of pairs; not a number without rows of both kinds."""
    of_class = int(positive.sum())
    others = len(positive) - of_class
    if not of_class or not others:
        return float("nan")
    return float((ranks(scores)[positive].sum() - of_class * (of_class + 1) / 2) / (of_class * others))

"""Metrics of classification as functions of sums over rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Statistic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

BINARY, MICRO, WEIGHTED = "binary", "micro", "weighted"


class Accuracy(Statistic):
    """The share of rows whose prediction is right."""

    proportion = True
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        check_one_class_per_row(predictions, references)
        right: Floats = (predictions == references).astype(float)
        return right[:, None]

    def value(self, sums: Floats, n: int) -> Floats:
        return sums[..., 0] / n


def _f1(hits: Floats, predicted: Floats, actual: Floats) -> Floats:
    return _ratio(2 * hits, predicted + actual)


def _precision(hits: Floats, predicted: Floats, actual: Floats) -> Floats:
    return _ratio(hits, predicted)


def _recall(hits: Floats, predicted: Floats, actual: Floats) -> Floats:
    return _ratio(hits, actual)


SCORES: Mapping[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "f1": _f1,
    "precision": _precision,
    "recall": _recall,
}
"""From counts of hits, predictions and references of a class; 0 where a score is undefined, as scikit-learn has it."""


@dataclass(frozen=True)
class Score(Statistic):
    """A score of classes, averaged as scikit-learn does.

    Rows are [n, 3 * groups]: for each group of classes whether the row is a hit in it, is predicted to be in it, is in
    it. A group is a class, or for micro all that count. Where no labels are chosen, a class that only one of two models
    predicts is a group of that model's rows alone.
    """

    score: Callable[[Floats, Floats, Floats], Floats]
    average: str
    pos_label: int
    labels: Sequence[int] | None
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        check_one_class_per_row(predictions, references)
        found = np.union1d(predictions, references)
        if self.average == BINARY:
            self._check_binary(found.tolist())
        classes = found if self.labels is None else np.array(self.labels)
        return _by_group(predictions, references, self._groups(predictions, classes), self._groups(references, classes))

    def _groups(self, values: NDArray[Any], classes: NDArray[Any]) -> Flags:
        """Whether each value is in each group, [n, groups]."""
        import numpy as np

        if self.average == MICRO:
            return np.isin(values, classes)[:, None]
        return _is_of(values, np.array([self.pos_label]) if self.average == BINARY else classes)

    def _check_binary(self, found: list[Any]) -> None:
        if len(found) > 2:
            raise PreconditionFailed(
                f"there are {len(found)} classes, and average is binary",
                hint='set compute_params to {"average": "macro"}, "micro" or "weighted"',
            )
        if len(found) == 2 and self.pos_label not in found:
            raise PreconditionFailed(
                f"no row has the positive class {self.pos_label}: the classes are {found[0]} and {found[1]}",
                hint="set pos_label in compute_params",
            )

    def value(self, sums: Floats, n: int) -> Floats:
        hits, predicted, actual = _thirds(sums)
        scores = self.score(hits, predicted, actual)
        weights = self._weights(predicted, actual)
        return _ratio((scores * weights).sum(axis=-1), weights.sum(axis=-1))

    def _weights(self, predicted: Floats, actual: Floats) -> Floats:
        """Of each group in the mean. A class that a resample does not have counts only if it is asked for."""
        import numpy as np

        if self.average == WEIGHTED:
            return actual
        return np.ones_like(actual) if self.labels is not None else (predicted + actual > 0).astype(float)


class MatthewsCorrelation(Statistic):
    """Matthews' correlation coefficient over any number of classes (Gorodkin 2004).

    Rows are [n, 3 * classes], as those of a `Score`.
    """

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        check_one_class_per_row(predictions, references)
        classes = np.union1d(predictions, references)
        return _by_group(predictions, references, _is_of(predictions, classes), _is_of(references, classes))

    def value(self, sums: Floats, n: int) -> Floats:
        hits, predicted, actual = _thirds(sums)
        covariance = hits.sum(axis=-1) * n - (predicted * actual).sum(axis=-1)
        of_predictions = n**2 - (predicted**2).sum(axis=-1)
        of_references = n**2 - (actual**2).sum(axis=-1)
        return _ratio(covariance, (of_predictions * of_references) ** 0.5)


def _is_of(values: NDArray[Any], classes: NDArray[Any]) -> Flags:
    """Whether each value is each class, [n, classes]."""
    matches: Flags = values[:, None] == classes
    return matches


def _by_group(predictions: NDArray[Any], references: NDArray[Any], predicted: Flags, actual: Flags) -> Floats:
    """Hits, predictions and references of each group, row by row: [n, 3 * groups]."""
    import numpy as np

    hits = (predictions == references)[:, None] & actual
    return np.concatenate([hits, predicted, actual], axis=1).astype(float)


def _thirds(sums: Floats) -> tuple[Floats, Floats, Floats]:
    k = sums.shape[-1] // 3
    return sums[..., :k], sums[..., k : 2 * k], sums[..., 2 * k :]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """A quotient, 0 where the denominator is."""
    import numpy as np

    zeros: Floats = np.zeros_like(numerator, dtype=float)
    return np.divide(numerator, denominator, out=zeros, where=denominator != 0)


def check_one_class_per_row(predictions: NDArray[Any], references: NDArray[Any]) -> None:
    """Refuse anything else.

    :raises PreconditionFailed: predictions or references are of another shape
    """
    if predictions.shape != references.shape or predictions.ndim != 1:
        raise PreconditionFailed(
            f"needs one class per row; predictions are {list(predictions.shape)}, labels {list(references.shape)}"
        )

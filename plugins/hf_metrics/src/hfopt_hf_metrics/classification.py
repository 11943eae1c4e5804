"""Metrics of classification as functions of sums over rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Statistic
from hfopt_hf_metrics.perplexity import refuse_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

BINARY, MICRO, WEIGHTED, SAMPLES = "binary", "micro", "weighted", "samples"


class Accuracy(Statistic):
    """The share of rows whose prediction is right; of several labels, all of them."""

    proportion = True
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        chosen = classes_of(predictions, references)
        right: Floats = (chosen == references).reshape(len(references), -1).all(axis=1).astype(float)
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

    Rows are [n, 4 * groups]: for each group of classes whether the row is a hit in it, is predicted to be in it, is in
    it, and whether the group counts in a mean even if no row has to do with it. A group is a class, or for micro all
    that count. Where no labels are chosen, a class that only one of two models predicts is a group of that model's rows
    alone. Of several labels per row, each is a group; for samples rows are their own scores, [n, 1].
    """

    score: Callable[[Floats, Floats, Floats], Floats]
    average: str
    pos_label: int
    labels: Sequence[int] | None
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        predictions = classes_of(predictions, references)
        if references.ndim == 2:
            return self._of_labels(predictions == 1, references == 1)
        if self.average == SAMPLES:
            raise PreconditionFailed("average samples is of several labels per row, and there is one class per row")
        found = np.union1d(predictions, references)
        if self.average == BINARY:
            self._check_binary(found.tolist())
        classes = found if self.labels is None else np.array(self.labels)
        predicted, actual = self._groups(predictions, classes), self._groups(references, classes)
        always = np.full_like(actual, self.labels is not None)
        return np.concatenate([_by_group(predictions, references, predicted, actual), always], axis=1)

    def _of_labels(self, predicted: Flags, actual: Flags) -> Floats:
        """Rows of several labels each."""
        import numpy as np

        if self.average == BINARY:
            hint = 'set compute_params to {"average": "macro"}, "micro", "weighted" or "samples"'
            raise PreconditionFailed("there are several labels per row, and average is binary", hint=hint)
        if self.labels is not None:
            predicted, actual = predicted[:, list(self.labels)], actual[:, list(self.labels)]
        counts = [each.astype(float) for each in (predicted & actual, predicted, actual, np.ones_like(actual))]
        if self.average in (MICRO, SAMPLES):
            counts = [each.sum(axis=1, keepdims=True) for each in counts]
        return self.score(*counts[:3]) if self.average == SAMPLES else np.concatenate(counts, axis=1)

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
        if self.average == SAMPLES:
            return sums[..., 0] / n
        hits, predicted, actual, always = _blocks(sums, 4)
        scores = self.score(hits, predicted, actual)
        weights = actual if self.average == WEIGHTED else (predicted + actual + always > 0).astype(float)
        return _ratio((scores * weights).sum(axis=-1), weights.sum(axis=-1))


@dataclass(frozen=True)
class MatthewsCorrelation(Statistic):
    """Matthews' correlation coefficient over any number of classes (Gorodkin 2004).

    Rows are [n, 3 * classes]: hits, predictions and references of each. Of several labels per row it is the mean of
    each one's.

    :param average: macro, for several labels
    """

    average: str | None = None

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        if self.average is not None:
            chosen, labels = classes_of(predictions, references) == 1, references == 1
            if labels.ndim != 2:
                raise PreconditionFailed("average macro is of several labels per row, and there is one class per row")
            return np.concatenate([chosen & labels, chosen, labels], axis=1).astype(float)
        predictions = one_class_of(predictions, references)
        classes = np.union1d(predictions, references)
        return _by_group(predictions, references, _is_of(predictions, classes), _is_of(references, classes))

    def value(self, sums: Floats, n: int) -> Floats:
        hits, predicted, actual = _blocks(sums, 3)
        if self.average is not None:
            scale = predicted * (n - predicted) * actual * (n - actual)
            return _ratio(hits * n - predicted * actual, scale**0.5).mean(axis=-1)
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


def _blocks(sums: Floats, number: int) -> list[Floats]:
    """Equal parts of the last axis."""
    import numpy as np

    return np.split(sums, number, axis=-1)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """A quotient, 0 where the denominator is."""
    import numpy as np

    zeros: Floats = np.zeros_like(numerator, dtype=float)
    return np.divide(numerator, denominator, out=zeros, where=denominator != 0)


def classes_of(predictions: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
    """What a model chose for each row, of the shape of the references.

    :param predictions: classes [n]; or logits [n, classes], of which the largest is chosen, or each above 0 where
        references are several labels per row, 0 or 1, [n, labels]
    :raises PreconditionFailed: they don't go together
    """
    refuse_tokens(references)
    if references.dtype.kind == "U" or (references.dtype == object and references[0].dtype.kind == "U"):
        hint = "of texts there are wer, cer, exact_match, squad; of labels per token seqeval"
        raise PreconditionFailed("labels are texts, and this metric is of classes", hint=hint)
    several = references.ndim == 2
    logits = predictions.dtype.kind == "f" and predictions.ndim == 2
    if references.dtype.kind == "f" and not several:
        hint = "pearsonr, spearmanr or mse compare numbers"
        raise PreconditionFailed("labels are numbers, and this metric is of classes", hint=hint)
    if logits and several and predictions.shape == references.shape:
        return (predictions > 0).astype(int)
    if logits and references.ndim == 1 and len(predictions) == len(references):
        chosen: NDArray[Any] = predictions.argmax(axis=1) if predictions.shape[1] > 1 else predictions[:, 0] > 0
        return chosen.astype(int)
    if predictions.shape != references.shape or references.ndim not in (1, 2) or references.dtype.kind == "O":
        found = f"predictions are {list(predictions.shape)}, labels {list(references.shape)}"
        raise PreconditionFailed(f"needs one class per row, or as many labels as outputs; {found}")
    return predictions


def one_class_of(predictions: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
    """As `classes_of`, where rows must have one class each.

    :raises PreconditionFailed: they have several labels
    """
    refuse_tokens(references)
    if references.ndim != 1:
        hint = 'set compute_params to {"average": "macro"}'
        raise PreconditionFailed(f"needs one class per row; labels are {list(references.shape)}", hint=hint)
    return classes_of(predictions, references)

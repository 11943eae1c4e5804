"""huggingface_metrics: metrics of classification under the names of Hugging Face's evaluate, computed here from counts.

Loading them through evaluate would run a script from the hub, and yield one number without its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from hfopt import Config, MetricBackend, PreconditionFailed, Statistic
from hfopt.api.config import UnknownName, only

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SCRIPTS = "scripts from the hub are not run in this version"


class ComputeParams(Config):
    """``compute_params``: the arguments of the metric, as evaluate has them."""

    average: Literal["binary", "macro", "micro", "weighted"] = Field("binary", description="Over classes.")
    pos_label: int = Field(1, ge=0, description="The class that counts as positive, for binary.")


class HuggingfaceMetricsConfig(Config):
    """``metric_config`` of a ``huggingface_metrics`` figure."""

    compute_params: ComputeParams = Field(ComputeParams(), description="Arguments of the metric.")
    load_params: Annotated[dict[str, Any] | None, only(None, {}, because=_SCRIPTS)] = Field(
        None, description="Not available."
    )
    result_key: Annotated[str | None, only(None, because=_SCRIPTS)] = Field(None, description="Not available.")


class HuggingfaceMetrics(MetricBackend):
    """accuracy, f1, precision, recall, matthews_correlation."""

    Config: ClassVar[type[Config]] = HuggingfaceMetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic:
        if name == "accuracy":
            return Accuracy()
        if name == "matthews_correlation":
            return MatthewsCorrelation()
        if name in SCORES:
            return Score(SCORES[name], config.compute_params)
        raise UnknownName("metric (those of the hub are scripts, which are not run)", name, [*SCORES, *_OTHERS])


_OTHERS = ("accuracy", "matthews_correlation")


class Accuracy(Statistic):
    """The share of rows whose prediction is right."""

    proportion = True
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        _check(predictions, references)
        return (predictions == references).astype(float)[:, None]

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
    """A score of classes, averaged.

    A row adds, for each class, whether it is a hit, whether it was predicted and whether it is right: [n, 3 * classes].
    """

    score: Callable[[Floats, Floats, Floats], Floats]
    params: ComputeParams
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        _check(predictions, references)
        if self.params.average == "binary":
            self._check_binary(predictions, references)
            classes = np.array([self.params.pos_label])
        else:
            classes = np.union1d(predictions, references)
        return _by_class(predictions, references, classes)

    def _check_binary(self, predictions: NDArray[Any], references: NDArray[Any]) -> None:
        import numpy as np

        found = np.union1d(predictions, references)
        if len(found) > 2:
            raise PreconditionFailed(
                f"there are {len(found)} classes, and average is binary",
                hint='set compute_params to {"average": "macro"}, "micro" or "weighted"',
            )

    def value(self, sums: Floats, n: int) -> Floats:
        hits, predicted, actual = _thirds(sums)
        if self.params.average == "micro":
            hits, predicted, actual = (each.sum(axis=-1, keepdims=True) for each in (hits, predicted, actual))
        scores = self.score(hits, predicted, actual)
        if self.params.average == "weighted":
            return _ratio((scores * actual).sum(axis=-1), actual.sum(axis=-1))
        return scores.mean(axis=-1)


class MatthewsCorrelation(Statistic):
    """Matthews' correlation coefficient over any number of classes (Gorodkin 2004)."""

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        _check(predictions, references)
        return _by_class(predictions, references, np.union1d(predictions, references))

    def value(self, sums: Floats, n: int) -> Floats:
        hits, predicted, actual = _thirds(sums)
        covariance = hits.sum(axis=-1) * n - (predicted * actual).sum(axis=-1)
        own = n**2 - (predicted**2).sum(axis=-1)
        theirs = n**2 - (actual**2).sum(axis=-1)
        return _ratio(covariance, (own * theirs) ** 0.5)


def _by_class(predictions: NDArray[Any], references: NDArray[Any], classes: NDArray[Any]) -> Floats:
    """Hits, predictions and references of each class, row by row: [n, 3 * classes]."""
    import numpy as np

    predicted = predictions[:, None] == classes
    actual = references[:, None] == classes
    return np.concatenate([predicted & actual, predicted, actual], axis=1).astype(float)


def _thirds(sums: Floats) -> tuple[Floats, Floats, Floats]:
    k = sums.shape[-1] // 3
    return sums[..., :k], sums[..., k : 2 * k], sums[..., 2 * k :]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """A quotient, 0 where the denominator is."""
    import numpy as np

    return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=float), where=denominator != 0)


def _check(predictions: NDArray[Any], references: NDArray[Any]) -> None:
    if predictions.shape != references.shape or predictions.ndim != 1:
        raise PreconditionFailed(
            f"needs one class per row; predictions are {list(predictions.shape)}, labels {list(references.shape)}"
        )

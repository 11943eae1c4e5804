"""torch_metrics: metrics of classification as torchmetrics has them, computed from counts per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hfopt import Config, MetricBackend, PreconditionFailed, Statistic, WholeStatistic
from hfopt.api.arrays import Array, Floats
from hfopt.api.config import UnknownName
from hfopt_hf_metrics.classification import BINARY, MICRO, SCORES, WEIGHTED, Accuracy, Score, classes_of
from hfopt_hf_metrics.perplexity import Perplexity
from hfopt_hf_metrics.roc import RocAuc
from hfopt_torch_metrics.config import TorchMetricsConfig

NAMES = {"accuracy_score": "recall", "f1_score": "f1", "precision": "precision", "recall": "recall"}
"""By name, the score of a class; torchmetrics calls the mean of its recalls accuracy."""
AUROC, PERPLEXITY = "auroc", "perplexity"


class TorchMetrics(MetricBackend):
    """accuracy_score, f1_score, precision, recall, auroc, perplexity."""

    Config: ClassVar[type[Config]] = TorchMetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic | WholeStatistic:
        if name == PERPLEXITY:
            return Perplexity()
        if name not in NAMES and name != AUROC:
            raise UnknownName("metric", name, sorted([*NAMES, AUROC, PERPLEXITY]))
        if name == AUROC:
            if config.average == MICRO:
                raise ValueError("average of auroc is macro or weighted")
            return CountedAuc(config)
        average = config.average or MICRO
        if config.task == "multilabel":
            return Labels(LabelAccuracy(average) if name == "accuracy_score" else _score(name, average), config)
        if name == "accuracy_score" and (config.task == BINARY or average == MICRO):
            return Classes(Accuracy(), config)
        score = _score(name, BINARY if config.task == BINARY else average)
        if (config.top_k or 1) > 1 and average == "macro" and name != "f1_score":
            score = OfClassesThere(score.score, average, pos_label=1, labels=None)
        return Classes(score, config)


def _score(name: str, average: str) -> Score:
    return Score(SCORES[NAMES[name]], average, pos_label=1, labels=None)


class OfClassesThere(Score):
    """A mean over the classes that some row has: torchmetrics' macro averages with ``top_k``, f1 apart."""

    def value(self, sums: Floats, n: int) -> Floats:
        import numpy as np

        hits, predicted, actual, _ = np.split(sums, 4, axis=-1)
        there = actual > 0
        mean: Floats = np.where(there, self.score(hits, predicted, actual), 0).sum(axis=-1) / there.sum(axis=-1)
        return mean


@dataclass(frozen=True)
class LabelAccuracy(Statistic):
    """The share of labels that are right, of rows with several labels each.

    Rows are [n, 2 * labels]: whether each is right, and whether the row has it.

    :param average: weighted, by how many rows have a label; else every label counts alike, as there are as many of each
    """

    average: str
    unit = "proportion"

    def rows(self, predictions: Array, references: Array) -> Floats:
        import numpy as np

        right = classes_of(predictions, references) == references
        if right.ndim != 2:
            raise PreconditionFailed("task is multilabel, and there is one class per row")
        return np.concatenate([right, references == 1], axis=1).astype(float)

    def value(self, sums: Floats, n: int) -> Floats:
        import numpy as np

        right, weights = np.split(sums, 2, axis=-1)
        if self.average != WEIGHTED:
            return right.mean(axis=-1) / n
        total = weights.sum(axis=-1)
        return (right * weights).sum(axis=-1) / n / np.where(total > 0, total, 1)


class _Told(Statistic):
    """A metric of what is chosen as the options say."""

    def __init__(self, metric: Statistic, config: TorchMetricsConfig) -> None:
        self.metric, self.config = metric, config
        self.proportion, self.unit = metric.proportion, metric.unit

    def value(self, sums: Floats, n: int) -> Floats:
        return self.metric.value(sums, n)


class Labels(_Told):
    """Of several labels per row, each is chosen whose probability is above the threshold."""

    def rows(self, predictions: Array, references: Array) -> Floats:
        if predictions.dtype.kind == "f":
            predictions = predictions - _odds(self.config.threshold)
        if references.ndim == 2 and references.shape[1] != self.config.num_labels:
            raise PreconditionFailed(
                f"rows have {references.shape[1]} labels, and num_labels is {self.config.num_labels}"
            )
        return self.metric.rows(predictions, references)


class Classes(_Told):
    """The class with the largest score is chosen; of two, the second if its probability is above the threshold."""

    def rows(self, predictions: Array, references: Array) -> Floats:
        predictions, references = counted(predictions, references, self.config)
        return self.metric.rows(self._chosen(predictions, references), references)

    def _chosen(self, predictions: Array, references: Array) -> Array:
        import numpy as np

        config = self.config
        scores = predictions.dtype.kind == "f" and predictions.ndim == 2 and predictions.shape[1] <= 2
        if scores and config.task == BINARY and config.threshold != 0.5:
            ahead = predictions[:, -1] - (predictions[:, 0] if predictions.shape[1] == 2 else 0)
            predictions = (ahead > _odds(config.threshold)).astype(int)
        chosen = classes_of(predictions, references)
        _check_classes(chosen, references, config.num_classes or 2)
        if (config.top_k or 1) > 1:
            if predictions.ndim != 2:
                raise PreconditionFailed("top_k needs the scores of every class", hint="leave out post_processing_func")
            best = np.argsort(-predictions, axis=1, kind="stable")[:, : config.top_k]
            chosen = np.where((best == references[:, None]).any(axis=1), references, chosen)
        return chosen


class CountedAuc(RocAuc):
    """The area under the receiver operating characteristic, of the rows that count."""

    def __init__(self, config: TorchMetricsConfig) -> None:
        super().__init__(config.average or "macro")
        object.__setattr__(self, "config", config)

    def value(self, predictions: Array, references: Array) -> float:
        return super().value(*counted(predictions, references, self.config))  # type: ignore[attr-defined]


def counted(predictions: Array, references: Array, config: TorchMetricsConfig) -> tuple[Array, Array]:
    """The rows whose class is not to be ignored."""
    if config.ignore_index is None or references.ndim != 1 or len(predictions) != len(references):
        return predictions, references
    kept = references != config.ignore_index
    if not kept.any():
        raise PreconditionFailed(f"every row has the class {config.ignore_index}, which ignore_index leaves out")
    return predictions[kept], references[kept]


def _odds(probability: float) -> float:
    """What a logit must be above."""
    from math import log

    return log(probability / (1 - probability))


def _check_classes(predictions: Array, references: Array, classes: int) -> None:
    """As torchmetrics checks them."""
    largest = max(int(predictions.max(initial=0)), int(references.max(initial=0)))
    if largest >= classes:
        raise PreconditionFailed(
            f"there is a class {largest}, and the metric is told of {classes} classes, 0 to {classes - 1}",
            hint='set metric_config to {"task": "multiclass", "num_classes": ...}',
        )

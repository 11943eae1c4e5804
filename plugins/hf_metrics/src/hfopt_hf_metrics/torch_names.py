"""torch_metrics: metrics of classification under the names and with the options of torchmetrics, computed from counts.

torchmetrics itself is not needed: what its constructors are told here is what scikit-learn has too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hfopt import Config, MetricBackend, PreconditionFailed, Statistic, WholeStatistic
from hfopt.api.config import OptionError, UnknownName, only
from hfopt_hf_metrics.classification import BINARY, MICRO, SCORES, Accuracy, Score, classes_of
from hfopt_hf_metrics.perplexity import Perplexity
from hfopt_hf_metrics.roc import RocAuc

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = {"accuracy_score": "recall", "f1_score": "f1", "precision": "precision", "recall": "recall"}
"""By name, the score of a class; torchmetrics calls the mean of its recalls accuracy."""
AUROC, PERPLEXITY = "auroc", "perplexity"

_ONE_CLASS = "the class with the largest score is a row's prediction in this version"


class TorchMetricsConfig(Config):
    """``metric_config`` of a ``torch_metrics`` figure."""

    task: Literal["binary", "multiclass", "multilabel"] = Field(
        "binary", description="binary: class 1 is the positive one; multiclass; or multilabel: several labels per row."
    )
    num_classes: int | None = Field(None, ge=2, description="How many classes there are, for multiclass.")
    num_labels: int | None = Field(None, ge=2, description="How many labels a row has, for multilabel.")
    average: Literal["micro", "macro", "weighted"] | None = Field(
        None, description="Over classes or labels; null: micro, but macro for auroc."
    )
    threshold: float = Field(0.5, description="Of no effect: of classes the one with the largest score is chosen.")
    multidim_average: Annotated[Literal["global", "samplewise"], only("global", because=_ONE_CLASS)] = Field(
        "global", description="global."
    )
    top_k: Annotated[int | None, only(None, 1, because=_ONE_CLASS)] = Field(1, description="1.")
    ignore_index: Annotated[int | None, only(None, -100, because="every row counts in this version")] = Field(
        None, description="-100: no class, and in texts the tokens that do not count in any case."
    )
    validate_args: bool = Field(True, description="Of no effect: predictions and labels are always checked.")

    @model_validator(mode="after")
    def _knows_its_classes(self) -> TorchMetricsConfig:
        needed = {"multiclass": "num_classes", "multilabel": "num_labels"}.get(self.task)
        if needed is not None and getattr(self, needed) is None:
            raise OptionError(needed, f"is required: task is {self.task}")
        if self.task == "multilabel" and self.threshold != 0.5:
            raise OptionError("threshold", "labels are chosen at 0.5 in this version")
        return self


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
            return RocAuc(config.average or "macro")
        average = config.average or MICRO
        if config.task == "multilabel":
            if name == "accuracy_score":
                return LabelAccuracy()
            return Score(SCORES[NAMES[name]], average, pos_label=1, labels=None)
        binary = config.task == BINARY
        classes = 2 if binary else config.num_classes
        if name == "accuracy_score" and (binary or average == MICRO):
            return OfClasses(Accuracy(), classes)
        return OfClasses(Score(SCORES[NAMES[name]], BINARY if binary else average, pos_label=1, labels=None), classes)


class LabelAccuracy(Statistic):
    """The share of labels that are right, of rows with several labels each; every label counts alike."""

    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
        right: NDArray[Any] = classes_of(predictions, references) == references
        return right.reshape(len(right), -1).mean(axis=1, keepdims=True)

    def value(self, sums: NDArray[Any], n: int) -> NDArray[Any]:
        mean: NDArray[Any] = sums[..., 0] / n
        return mean


class OfClasses(Statistic):
    """A metric of predictions among so many classes."""

    def __init__(self, metric: Statistic, classes: int) -> None:
        self.metric, self.classes = metric, classes
        self.proportion, self.unit = metric.proportion, metric.unit

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
        chosen = classes_of(predictions, references)
        _check_classes(chosen, references, self.classes)
        return self.metric.rows(chosen, references)

    def value(self, sums: NDArray[Any], n: int) -> NDArray[Any]:
        return self.metric.value(sums, n)


def _check_classes(predictions: NDArray[Any], references: NDArray[Any], classes: int) -> None:
    """As torchmetrics checks them."""
    largest = max(int(predictions.max(initial=0)), int(references.max(initial=0)))
    if largest >= classes:
        raise PreconditionFailed(
            f"there is a class {largest}, and the metric is told of {classes} classes, 0 to {classes - 1}",
            hint='set metric_config to {"task": "multiclass", "num_classes": ...}',
        )

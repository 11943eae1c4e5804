"""torch_metrics: metrics of classification under the names and with the options of torchmetrics, computed from counts.

torchmetrics itself is not needed: what its constructors are told here is what scikit-learn has too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hfopt import Config, MetricBackend, PreconditionFailed, Statistic
from hfopt.api.config import OptionError, UnknownName, only
from hfopt_hf_metrics.classification import BINARY, SCORES, Accuracy, Score, check_one_class_per_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = {"accuracy_score": "recall", "f1_score": "f1", "precision": "precision", "recall": "recall"}
"""By name, the score of a class; torchmetrics calls the mean of its recalls accuracy."""

UNAVAILABLE = {
    "auroc": "auroc needs the scores of every row, and predictions are kept as classes in this version",
    "perplexity": "perplexity is of models that write text, which this version does not evaluate",
}

_ONE_CLASS = "predictions are one class for each row in this version"


class TorchMetricsConfig(Config):
    """``metric_config`` of a ``torch_metrics`` figure."""

    task: Annotated[Literal["binary", "multiclass", "multilabel"], only("binary", "multiclass", because=_ONE_CLASS)] = (
        Field("binary", description="binary: class 1 is the positive one; or multiclass.")
    )
    num_classes: int | None = Field(None, ge=2, description="How many classes there are, for multiclass.")
    average: Literal["micro", "macro", "weighted"] = Field("micro", description="Over classes, for multiclass.")
    threshold: float = Field(0.5, description="Of no effect: predictions are classes.")
    num_labels: Annotated[int | None, only(None, because=_ONE_CLASS)] = Field(None, description="Not available.")
    multidim_average: Annotated[Literal["global", "samplewise"], only("global", because=_ONE_CLASS)] = Field(
        "global", description="global."
    )
    top_k: Annotated[int | None, only(None, 1, because=_ONE_CLASS)] = Field(1, description="1.")
    ignore_index: Annotated[int | None, only(None, because="every row counts in this version")] = Field(
        None, description="Not available."
    )
    validate_args: bool = Field(True, description="Of no effect: predictions and labels are always checked.")

    @model_validator(mode="after")
    def _knows_its_classes(self) -> TorchMetricsConfig:
        if self.task != BINARY and self.num_classes is None:
            raise OptionError("num_classes", "is required: task is multiclass")
        return self


class TorchMetrics(MetricBackend):
    """accuracy_score, f1_score, precision, recall."""

    Config: ClassVar[type[Config]] = TorchMetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic:
        if name in UNAVAILABLE:
            raise ValueError(UNAVAILABLE[name])
        if name not in NAMES:
            raise UnknownName("metric", name, sorted(NAMES))
        binary = config.task == BINARY
        classes = 2 if binary else config.num_classes
        if name == "accuracy_score" and (binary or config.average == "micro"):
            return OfClasses(Accuracy(), classes)
        average = BINARY if binary else config.average
        return OfClasses(Score(SCORES[NAMES[name]], average, pos_label=1, labels=None), classes)


class OfClasses(Statistic):
    """A metric of predictions among so many classes."""

    def __init__(self, metric: Statistic, classes: int) -> None:
        self.metric, self.classes = metric, classes
        self.proportion, self.unit = metric.proportion, metric.unit

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
        check_one_class_per_row(predictions, references)
        _check_classes(predictions, references, self.classes)
        return self.metric.rows(predictions, references)

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

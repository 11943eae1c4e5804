"""Options of a ``torch_metrics`` figure: what torchmetrics' constructors take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hfopt import Config
from hfopt.api.config import OptionError, only


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
    threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="A probability above which the positive class, or a label, is chosen; of no effect for multiclass.",
    )
    top_k: int | None = Field(
        1, ge=1, description="For multiclass: a row is right if its class is among so many with the largest scores."
    )
    ignore_index: int | None = Field(None, description="Rows of this class do not count; -100 is none.")
    multidim_average: Annotated[
        Literal["global", "samplewise"], only("global", because="a figure is one number for all rows")
    ] = Field("global", description="global.")
    validate_args: bool = Field(True, description="Of no effect: predictions and labels are always checked.")

    @model_validator(mode="after")
    def _of_its_task(self) -> TorchMetricsConfig:
        needed = {"multiclass": "num_classes", "multilabel": "num_labels"}.get(self.task)
        if needed is not None and getattr(self, needed) is None:
            raise OptionError(needed, f"is required: task is {self.task}")
        if self.task != "multiclass" and (self.top_k or 1) > 1:
            raise OptionError("top_k", f"is of multiclass, and task is {self.task}")
        if (self.top_k or 1) > (self.num_classes or 2):
            raise OptionError("top_k", f"is more than num_classes, {self.num_classes}")
        if self.task == "multilabel" and self.ignore_index not in (None, -100):
            raise OptionError("ignore_index", "is a class, and of several labels per row each counts")
        return self

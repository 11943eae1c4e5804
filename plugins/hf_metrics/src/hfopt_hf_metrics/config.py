"""Options of a ``huggingface_metrics`` figure: what evaluate's metrics take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hfopt import Config
from hfopt.api.config import only

_SCRIPTS = "scripts from the hub are not run in this version"


class ComputeParams(Config):
    """``compute_params``: what the metrics' functions of scikit-learn take."""

    average: Literal["binary", "macro", "micro", "weighted", "samples"] | None = Field(
        None,
        description="Over classes, or over the labels of a row (samples). null: binary for f1, precision and recall, "
        "macro for roc_auc.",
    )
    pos_label: int = Field(1, description="The class that counts as positive, for binary.")
    labels: tuple[int, ...] | None = Field(
        None, min_length=1, description="The classes that count, for macro, micro and weighted; null: all."
    )
    multi_class: Literal["ovr", "ovo"] = Field(
        "ovr", description="roc_auc of several classes: each against the rest, or each two of them."
    )
    squared: bool = Field(True, description="mse: false yields its square root.")

    @model_validator(mode="after")
    def _nothing_idle(self) -> ComputeParams:
        """scikit-learn ignores these with a warning; what the user writes is obeyed or refused."""
        average = self.average or "binary"
        if average == "binary" and self.labels is not None:
            raise ValueError("labels has no effect with average binary: set average to macro, micro or weighted")
        if average != "binary" and self.pos_label != ComputeParams.model_fields["pos_label"].default:
            raise ValueError(f"pos_label has no effect with average {average}: use labels, or average binary")
        return self


class HuggingfaceMetricsConfig(Config):
    """``metric_config`` of a ``huggingface_metrics`` figure."""

    compute_params: ComputeParams | None = Field(None, description="What the metric is told: average...")
    load_params: Annotated[dict[str, Any] | None, only(None, {}, because=_SCRIPTS)] = Field(
        None, description="Not available."
    )
    result_key: str | None = Field(
        None,
        description="Which result, of seqeval (overall_f1, PER.recall...), squad (f1, exact_match) and squad_v2 (f1, "
        "exact). null: f1; of others the figure's own name.",
    )

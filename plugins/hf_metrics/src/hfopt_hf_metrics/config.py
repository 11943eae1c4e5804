"""Options of a ``huggingface_metrics`` figure: what evaluate's metrics take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
    model_validator,
)

from hfopt import Config
from hfopt_hf_metrics.evaluated import LoadParams


class ComputeParams(Config):
    """``compute_params``: what the metrics' functions of scikit-learn take."""

    average: Literal["binary", "macro", "micro", "weighted", "samples"] | None = Field(
        None,
        description="Over classes, or over the labels of a row (samples). null: binary for f1, precision and recall, "
        "macro for roc_auc. matthews_correlation has macro, for several labels per row.",
    )
    pos_label: int = Field(1, description="The class that counts as positive, for binary.")
    labels: list[int] | None = Field(
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


def _of_any_metric(written: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """What evaluate's own code is told is not known here."""
    loaded = info.data.get("load_params")
    return written if loaded is not None and loaded.runs_code and isinstance(written, dict) else check(written)


def _as_written(params: Any, dump: SerializerFunctionWrapHandler) -> Any:
    return params if isinstance(params, dict) else dump(params)


class HuggingfaceMetricsConfig(Config):
    """``metric_config`` of a ``huggingface_metrics`` figure."""

    load_params: LoadParams | None = Field(None, description="Of a metric that evaluate computes: where its code is.")
    compute_params: Annotated[ComputeParams | None, WrapValidator(_of_any_metric), WrapSerializer(_as_written)] = Field(
        None, description="What the metric is told: average... Of one with load_params, whatever its compute takes."
    )
    result_key: str | None = Field(
        None,
        description="Which result, of seqeval (overall_f1, PER.recall...), squad (f1, exact_match) and squad_v2 (f1, "
        "exact). null: f1; of others the figure's own name.",
    )

"""huggingface_metrics: metrics of classification under the names of Hugging Face's evaluate, computed from counts.

Loading them through evaluate would run a script from the hub, and yield one number without its rows.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hfopt import Config, MetricBackend, Statistic
from hfopt.api.config import UnknownName
from hfopt_hf_metrics.classification import SCORES, Accuracy, MatthewsCorrelation, Score
from hfopt_hf_metrics.config import ComputeParams, HuggingfaceMetricsConfig

PLAIN: dict[str, type[Statistic]] = {"accuracy": Accuracy, "matthews_correlation": MatthewsCorrelation}
"""Metrics without parameters; those with parameters are `SCORES`."""


class HuggingfaceMetrics(MetricBackend):
    """accuracy, f1, precision, recall, matthews_correlation."""

    Config: ClassVar[type[Config]] = HuggingfaceMetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic:
        if name not in PLAIN and name not in SCORES:
            raise UnknownName("metric", name, sorted({*PLAIN, *SCORES}))
        if config.result_key not in (None, name):
            raise ValueError(f"result_key: {name} yields {name!r} and nothing else, got {config.result_key!r}")
        params = config.compute_params or ComputeParams()
        if name in SCORES:
            return Score(SCORES[name], params.average, params.pos_label, params.labels)
        if params != ComputeParams():
            raise ValueError(f"compute_params: {name} has none")
        return PLAIN[name]()

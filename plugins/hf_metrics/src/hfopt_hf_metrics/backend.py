"""huggingface_metrics: metrics under the names of Hugging Face's evaluate, computed here.

Loading them through evaluate would run a script from the hub, and yield one number without its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from hfopt import Config, MetricBackend, Statistic, WholeStatistic
from hfopt.api.config import UnknownName
from hfopt_hf_metrics.classification import BINARY, SCORES, Accuracy, MatthewsCorrelation, Score
from hfopt_hf_metrics.config import ComputeParams, HuggingfaceMetricsConfig
from hfopt_hf_metrics.perplexity import Perplexity
from hfopt_hf_metrics.regression import MeanSquaredError, Pearson, Spearman
from hfopt_hf_metrics.roc import RocAuc

_Made = Callable[[ComputeParams], Statistic | WholeStatistic]


class Known(NamedTuple):
    """A metric: which parameters it takes, and what makes it."""

    params: frozenset[str]
    make: _Made


def _score(name: str) -> _Made:
    return lambda params: Score(SCORES[name], params.average or BINARY, params.pos_label, params.labels)


def _area(params: ComputeParams) -> RocAuc:
    if params.average not in (None, "macro", "weighted"):
        raise ValueError(f"compute_params: average of roc_auc is macro or weighted, got {params.average}")
    return RocAuc(params.average or "macro", pairs=params.multi_class == "ovo")


METRICS: Mapping[str, Known] = {
    "accuracy": Known(frozenset(), lambda _: Accuracy()),
    **{name: Known(frozenset({"average", "pos_label", "labels"}), _score(name)) for name in SCORES},
    "matthews_correlation": Known(frozenset(), lambda _: MatthewsCorrelation()),
    "mse": Known(frozenset({"squared"}), lambda params: MeanSquaredError(root=not params.squared)),
    "pearsonr": Known(frozenset(), lambda _: Pearson()),
    "perplexity": Known(frozenset(), lambda _: Perplexity()),
    "roc_auc": Known(frozenset({"average", "multi_class"}), _area),
    "spearmanr": Known(frozenset(), lambda _: Spearman()),
}


class HuggingfaceMetrics(MetricBackend):
    """accuracy, f1, precision, recall, matthews_correlation, roc_auc, pearsonr, spearmanr, mse, perplexity."""

    Config: ClassVar[type[Config]] = HuggingfaceMetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic | WholeStatistic:
        if name not in METRICS:
            raise UnknownName("metric", name, sorted(METRICS))
        if config.result_key not in (None, name):
            raise ValueError(f"result_key: {name} yields {name!r} and nothing else, got {config.result_key!r}")
        params, known = config.compute_params or ComputeParams(), METRICS[name]
        if idle := set(params.written(*ComputeParams.model_fields)) - known.params:
            takes = f"takes {', '.join(sorted(known.params))}" if known.params else "has none"
            raise ValueError(f"compute_params: {name} {takes}, not {', '.join(sorted(idle))}")
        return known.make(params)

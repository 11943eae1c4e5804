"""huggingface_metrics: metrics under the names of Hugging Face's evaluate, computed here.

Loading them through evaluate would run a script from the hub, and yield one number without its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from hfopt import Config, MetricBackend, Statistic, WholeStatistic
from hfopt.api.config import UnknownName
from hfopt.api.text import did_you_mean
from hfopt_hf_metrics.classification import BINARY, MICRO, SAMPLES, SCORES, Accuracy, MatthewsCorrelation, Score
from hfopt_hf_metrics.config import ComputeParams, HuggingfaceMetricsConfig
from hfopt_hf_metrics.entities import EntityScore, TokenAccuracy
from hfopt_hf_metrics.evaluated import Evaluated
from hfopt_hf_metrics.perplexity import Perplexity
from hfopt_hf_metrics.regression import MeanSquaredError, Pearson, Spearman
from hfopt_hf_metrics.roc import RocAuc
from hfopt_hf_metrics.texts import ErrorRate, ExactMatch, Squad

_Made = Callable[[ComputeParams, str], Statistic | WholeStatistic]
_OVERALL = "overall_"
_NOT_OURS = (
    "no metric named {name!r} is built in; there is {known}. Others of evaluate run code of their own: load_params "
    "names it (path: a file of yours, or a space of the hub), or allows what is in evaluate's cache "
    '("trust_remote_code": true)'
)


class Known(NamedTuple):
    """A metric: which parameters it takes, what makes it, and its results, the usual one first; none: its own name."""

    params: frozenset[str]
    make: _Made
    results: tuple[str, ...] = ()


def _score(name: str) -> _Made:
    return lambda params, _: Score(SCORES[name], params.average or BINARY, params.pos_label, params.labels)


def _area(params: ComputeParams, _: str) -> RocAuc:
    average, pairs = params.average or "macro", params.multi_class == "ovo"
    if average == BINARY or (pairs and average in (MICRO, SAMPLES)):
        able = "macro or weighted for each two classes" if pairs else "macro, micro, weighted or samples"
        raise ValueError(f"compute_params: average of roc_auc is {able}, got {average}")
    return RocAuc(average, pairs=pairs)


def _correlation(params: ComputeParams, _: str) -> MatthewsCorrelation:
    if params.average not in (None, "macro"):
        raise ValueError(f"compute_params: average of matthews_correlation is macro, got {params.average}")
    return MatthewsCorrelation(params.average)


def _entities(_: ComputeParams, result: str) -> Statistic:
    if result == f"{_OVERALL}accuracy":
        return TokenAccuracy()
    entity, _, score = result.rpartition(".")
    return EntityScore(score.removeprefix(_OVERALL), entity or None)


METRICS: Mapping[str, Known] = {
    "accuracy": Known(frozenset(), lambda *_: Accuracy()),
    "cer": Known(frozenset(), lambda *_: ErrorRate(characters=True)),
    "exact_match": Known(frozenset(), lambda *_: ExactMatch()),
    **{name: Known(frozenset({"average", "pos_label", "labels"}), _score(name)) for name in SCORES},
    "matthews_correlation": Known(frozenset({"average"}), _correlation),
    "mse": Known(frozenset({"squared"}), lambda params, _: MeanSquaredError(root=not params.squared)),
    "pearsonr": Known(frozenset(), lambda *_: Pearson()),
    "perplexity": Known(frozenset(), lambda *_: Perplexity()),
    "roc_auc": Known(frozenset({"average", "multi_class"}), _area),
    "seqeval": Known(frozenset(), _entities, tuple(f"{_OVERALL}{name}" for name in (*SCORES, "accuracy"))),
    "spearmanr": Known(frozenset(), lambda *_: Spearman()),
    "squad": Known(frozenset(), lambda _, key: Squad(f1=key == "f1", unanswerable=False), ("f1", "exact_match")),
    "squad_v2": Known(frozenset(), lambda _, key: Squad(f1=key == "f1", unanswerable=True), ("f1", "exact")),
    "wer": Known(frozenset(), lambda *_: ErrorRate()),
}


class HuggingfaceMetrics(MetricBackend):
    """accuracy, f1, roc_auc, pearsonr, mse, perplexity, wer, squad, seqeval and others: `METRICS`."""

    Config: ClassVar[type[Config]] = HuggingfaceMetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic | WholeStatistic:
        if config.load_params is not None and config.load_params.runs_code:
            return Evaluated(name, config.load_params, config.compute_params or {}, config.result_key)
        if name not in METRICS and did_you_mean(name, METRICS) is None:
            raise ValueError(_NOT_OURS.format(name=name, known=", ".join(sorted(METRICS))))
        if name not in METRICS:
            raise UnknownName("metric", name, sorted(METRICS))
        params, known = config.compute_params or ComputeParams(), METRICS[name]
        if idle := set(params.written(*ComputeParams.model_fields)) - known.params:
            takes = f"takes {', '.join(sorted(known.params))}" if known.params else "has none"
            raise ValueError(f"compute_params: {name} {takes}, not {', '.join(sorted(idle))}")
        return known.make(params, _result(name, known, config.result_key))


def _result(name: str, known: Known, key: str | None) -> str:
    """Which of a metric's results is meant.

    :raises ValueError: it has no such result
    """
    results = known.results or (name,)
    of_entity = name == "seqeval" and key is not None and key.rpartition(".")[2] in SCORES and "." in key
    if key is None or key in results or of_entity:
        return key or results[0]
    what = f"{', '.join(results[:-1])} or {results[-1]}" if known.results else f"{name!r} and nothing else"
    what += ", or those of a type of entity, as PER.f1" if name == "seqeval" else ""
    raise ValueError(f"result_key: {name} yields {what}, got {key!r}")

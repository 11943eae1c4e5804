"""Evaluators: from metrics as written to the figures wanted of every model, with their ranks and goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hfopt.api.config import Config, UnknownName
from hfopt.api.metrics import Statistic, WholeStatistic
from hfopt.api.timing import FIGURES, LATENCY_FIGURES, TIMED_KINDS, TimingConfig
from hfopt.base.errors import Place, Problem
from hfopt.config import schema
from hfopt.config.checker import Checker, ConfiguredComponent
from hfopt.config.meaning import models_in
from hfopt.config.problems import Mistakes, unknown_name, validate


@dataclass(frozen=True)
class Figure:
    """One number wanted of every model.

    :param key: its key in run.json
    :param kind: accuracy, latency, throughput or size
    :param options: its own, or those of its timings
    :param backend: who computes it, for accuracy
    :param settings: inference settings by type of model
    :param proportion: whether it is the share of rows that are right
    """

    key: str
    kind: str
    name: str
    data: str | None
    options: Mapping[str, Any]
    priority: int
    higher_is_better: bool
    backend: ConfiguredComponent | None = None
    goal: schema.Goal | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    proportion: bool = False


class _Measured(NamedTuple):
    """A kind of metric that needs no backend.

    :param names: the figures that it has; the first is wanted if none is written
    :param options: the model of its ``metric_config``
    """

    names: Sequence[str]
    options: type[Config]
    unit: str
    higher_is_better: bool


TORCH_NAMES = ("accuracy_score", "f1_score", "auroc", "perplexity")
"""Figures that only Olive's default backend has: by these, or its option `task`, one without a backend is told."""

_MEASURED = {
    "latency": _Measured(tuple(LATENCY_FIGURES), TimingConfig, "ms", False),
    "throughput": _Measured(tuple(FIGURES), TimingConfig, "rows/s", True),
    "size": _Measured(("bytes",), Config, "bytes", False),
}


def evaluator(check: Checker, raw: Any, place: Place) -> tuple[Figure, ...]:
    """The figures of one evaluator, ranked.

    :raises Mistakes: it is not of the right form; other mistakes are noted
    """
    section = validate(schema.Evaluator, raw, place)
    metrics = {(*place, "metrics", number): metric for number, metric in enumerate(section.metrics)}
    check.unique({(*at, "name"): metric.name for at, metric in metrics.items()})
    check.unique(
        {
            (*at, "sub_types", number, "priority"): each.priority
            for at, metric in metrics.items()
            for number, each in enumerate(metric.sub_types)
            if each.priority != schema.UNRANKED
        }
    )
    found = [figure for at, metric in metrics.items() for figure in _figures(check, metric, at)]
    # Priorities from 1 without gaps: the user's own order first, then the unranked as written.
    order = sorted(range(len(found)), key=lambda at: (found[at].priority == schema.UNRANKED, found[at].priority))
    ranks = {at: rank for rank, at in enumerate(order, 1)}
    return tuple(replace(figure, priority=ranks[at]) for at, figure in enumerate(found))


def _figures(check: Checker, metric: schema.Metric, place: Place) -> list[Figure]:
    check.known((*place, "data_config"), "data config", metric.data_config, check.data_names)
    if metric.type != "size" and not metric.data_config:
        check.problem((*place, "data_config"), f"is required: {metric.type} needs rows to work on")
    usual = (schema.SubType(name=_MEASURED[metric.type].names[0]),) if metric.type in _MEASURED else ()
    sub_types = metric.sub_types or usual
    if not sub_types:
        check.problem((*place, "sub_types"), "is required: name at least one figure, such as accuracy")
    places = {(*place, "sub_types", number): each for number, each in enumerate(sub_types)}
    check.unique({(*at, "name"): each.name for at, each in places.items()})
    found = [check.attempt(_figure, check, metric, each, at) for at, each in places.items()]
    settings = check.attempt(_settings, check, metric, (*place, "user_config"))
    figures = [replace(figure, settings=settings or {}) for figure in found if figure is not None]
    if metric.type not in TIMED_KINDS:
        return figures
    written = [figure.options for figure in figures if figure.options] or [TimingConfig().model_dump(mode="json")]
    if any(options != written[0] for options in written):
        check.problem(
            (*place, "sub_types"), "figures of one metric come from the same timings: their metric_config must agree"
        )
    return [replace(figure, options=written[0]) for figure in figures]


def _settings(check: Checker, metric: schema.Metric, place: Place) -> dict[str, Any]:
    """``inference_settings`` by type of model, each checked as such a model's own are."""
    settings = {}
    for framework, written in (metric.user_config.inference_settings or {}).items():
        at = (*place, "inference_settings", framework)
        kind = {"onnx": "ONNXModel", "pytorch": "PyTorchModel"}.get(framework.casefold(), f"{framework}Model")
        field = check.find("hfopt_model_loaders", kind, at)[1].Config.model_fields.get("inference_settings")
        if field is None:
            raise Mistakes(Problem(at, f"a {kind} has no inference_settings"))
        validate(models_in(field.annotation)[0], written, at)
        settings[kind] = written
    return settings


def _figure(check: Checker, metric: schema.Metric, sub_type: schema.SubType, place: Place) -> Figure:
    find = _measured if metric.type in _MEASURED else _of_backend
    meaning, options, backend = find(check, metric, sub_type, place)
    higher = meaning.higher_is_better if sub_type.higher_is_better is None else sub_type.higher_is_better
    if sub_type.goal is not None and (reason := sub_type.goal.impossible(higher, meaning.unit)):
        check.problem((*place, "goal", "value"), reason)
    return Figure(
        key=f"{metric.name}-{sub_type.name}",
        kind=metric.type,
        name=sub_type.name,
        data=metric.data_config,
        options=options.model_dump(mode="json") if backend or sub_type.metric_config else {},
        priority=sub_type.priority,
        higher_is_better=higher,
        backend=backend,
        goal=sub_type.goal,
        proportion=higher and isinstance(meaning, Statistic) and meaning.proportion,
    )


_Meaning = tuple[_Measured | Statistic | WholeStatistic, Config, ConfiguredComponent | None]


def _of_backend(check: Checker, metric: schema.Metric, sub_type: schema.SubType, place: Place) -> _Meaning:
    means_torch = sub_type.name in TORCH_NAMES or "task" in sub_type.metric_config
    written = metric.backend or ("torch_metrics" if means_torch else "huggingface_metrics")
    told, at = sub_type.metric_config, (*place, "metric_config")
    if metric.type == "custom":
        written, told, at = metric.type, {**told, **metric.functions}, (*place[:-2], "user_config")
    registered, _ = check.find("hfopt_metric_backends", written, (*place[:-2], "backend"))
    chosen = check.configured(registered, told, at)
    try:
        return chosen.cls().statistic(sub_type.name, chosen.config), chosen.config, chosen
    except UnknownName as error:
        raise Mistakes(unknown_name((*place, "name"), error)) from error
    except ValueError as error:
        raise Mistakes(Problem(at, str(error))) from error


def _measured(check: Checker, metric: schema.Metric, sub_type: schema.SubType, place: Place) -> _Meaning:
    kind = _MEASURED[metric.type]
    check.known((*place, "name"), f"{metric.type} figure", sub_type.name, kind.names)
    return kind, validate(kind.options, sub_type.metric_config, (*place, "metric_config")), None

"""Evaluators: from metrics as written to the figures wanted of every model, with their ranks and goals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hfopt.api.config import UnknownName
from hfopt.api.metrics import MetricBackend
from hfopt.api.timing import FIGURES, TIMED_KINDS, TimingConfig
from hfopt.base.errors import PluginError
from hfopt.config import schema
from hfopt.config.findings import Findings, Place
from hfopt.config.problems import validate
from hfopt.discovery.plugins import RegisteredComponent, Unresolved

_DEFAULT_FIGURES: Mapping[str, tuple[str, ...]] = {
    "accuracy": (),
    "latency": ("avg",),
    "throughput": ("avg",),
    "size": ("bytes",),
}


@dataclass(frozen=True)
class Figure:
    """One number wanted of every model.

    :param key: its key in run.json
    :param kind: accuracy, latency, throughput or size
    :param options: its own, or those of its timings
    :param backend: who computes it, for accuracy
    """

    key: str
    kind: str
    name: str
    data: str | None
    options: Mapping[str, Any]
    priority: int
    higher_is_better: bool
    backend: RegisteredComponent | None = None
    goal: schema.Goal | None = None


def evaluator(findings: Findings, raw: Any, place: Place) -> tuple[Figure, ...]:
    """The figures of one evaluator, ranked; none if it has mistakes."""
    section = findings.model(schema.Evaluator, _without_refused_keys(findings, raw, place), place, "evaluators")
    if section is None:
        return ()
    figures: list[Figure] = []
    seen: set[str] = set()
    ranked: dict[int, str] = {}
    for position, metric in enumerate(section.metrics):
        at = (*place, "metrics", position)
        if metric.name in seen:
            findings.problem((*at, "name"), f"there are two metrics named {metric.name!r}")
        seen.add(metric.name)
        known = findings.data_names
        if metric.data_config is not None and known is not None and metric.data_config not in known:
            findings.unknown_name((*at, "data_config"), "data config", metric.data_config, list(known))
        if metric.type != "size" and metric.data_config is None:
            findings.problem((*at, "data_config"), f"is required: {metric.type} needs rows to work on")
        _check_sub_types(findings, metric, at, ranked)
        figures += _metric_figures(findings, metric, at)
    return _ranked(figures)


def _check_sub_types(findings: Findings, metric: schema.Metric, at: Place, ranked: dict[int, str]) -> None:
    """No figure twice in a metric, and no priority twice in an evaluator.

    :param ranked: which figure has a priority; added to
    """
    seen: set[str] = set()
    for number, each in enumerate(metric.sub_types):
        place = (*at, "sub_types", number)
        if each.name in seen:
            findings.problem((*place, "name"), f"{each.name} stands twice in this metric")
        seen.add(each.name)
        if each.priority in ranked:
            findings.problem((*place, "priority"), f"{ranked[each.priority]} has priority {each.priority} too")
        if each.priority != schema.UNRANKED:
            ranked.setdefault(each.priority, f"{metric.name}-{each.name}")


def _without_refused_keys(findings: Findings, raw: Any, place: Place) -> Any:
    """The evaluator without what this version refuses within its metrics and sub types."""
    if not isinstance(raw, dict) or not isinstance(raw.get("metrics"), list):
        return raw
    metrics = []
    for position, written in enumerate(raw["metrics"]):
        at = (*place, "metrics", position)
        metric = findings.acceptable(written, at, "metrics")
        if isinstance(metric, dict) and isinstance(metric.get("sub_types"), list):
            sub_types = [
                findings.acceptable(sub_type, (*at, "sub_types", number), "sub_types")
                for number, sub_type in enumerate(metric["sub_types"])
            ]
            metric = {**metric, "sub_types": sub_types}
        metrics.append(metric)
    return {**raw, "metrics": metrics}


def _metric_figures(findings: Findings, metric: schema.Metric, at: Place) -> list[Figure]:
    sub_types = metric.sub_types or tuple(schema.SubType(name=name) for name in _DEFAULT_FIGURES[metric.type])
    if not sub_types:
        findings.problem((*at, "sub_types"), "is required: name at least one figure, such as accuracy")
    of_kind = {"accuracy": _accuracy_figure, "size": _size_figure}.get(metric.type, _timed_figure)
    found = [of_kind(findings, metric, each, (*at, "sub_types", number)) for number, each in enumerate(sub_types)]
    figures = [figure for figure in found if figure is not None]
    return _timed_alike(findings, figures, at) if metric.type in TIMED_KINDS else figures


def _timed_alike(findings: Findings, figures: list[Figure], at: Place) -> list[Figure]:
    """Figures of one metric come from the same timings: whichever of them states how, states it for all."""
    written = [figure.options for figure in figures if figure.options]
    if any(options != written[0] for options in written):
        findings.problem(
            (*at, "sub_types"),
            "figures of one metric come from the same timings: their metric_config must agree",
        )
    options = written[0] if written else TimingConfig().model_dump(mode="json")
    return [replace(figure, options=options) for figure in figures]


def _accuracy_figure(findings: Findings, metric: schema.Metric, sub_type: schema.SubType, at: Place) -> Figure | None:
    try:
        registered = findings.plugins.find("hfopt_metric_backends", metric.backend)
        backend: type[MetricBackend] = registered.load()
    except (Unresolved, PluginError) as error:
        findings.unresolved((*at[:-2], "backend"), error)
        return None
    options = validate(backend.Config, sub_type.metric_config, (*at, "metric_config"), findings.problems)
    if options is None:
        return None
    try:
        statistic = backend().statistic(sub_type.name, options)
    except UnknownName as error:
        findings.unknown((*at, "name"), error)
        return None
    except ValueError as error:
        findings.problem((*at, "metric_config"), str(error))
        return None
    figure = _figure(metric, sub_type, options.model_dump(mode="json"), registered, statistic.higher_is_better)
    return _with_sound_goal(findings, figure, statistic.unit, at)


def _timed_figure(findings: Findings, metric: schema.Metric, sub_type: schema.SubType, at: Place) -> Figure | None:
    if sub_type.name not in FIGURES:
        findings.unknown((*at, "name"), UnknownName(f"{metric.type} figure", sub_type.name, list(FIGURES)))
        return None
    options = validate(TimingConfig, sub_type.metric_config, (*at, "metric_config"), findings.problems)
    written = options.model_dump(mode="json") if options is not None and sub_type.metric_config else {}
    figure = _figure(metric, sub_type, written, None, metric.type == "throughput")
    return _with_sound_goal(findings, figure, "ms" if metric.type == "latency" else "rows/s", at)


def _size_figure(findings: Findings, metric: schema.Metric, sub_type: schema.SubType, at: Place) -> Figure | None:
    if sub_type.name != "bytes":
        findings.unknown_name((*at, "name"), "size figure", sub_type.name, ["bytes"])
        return None
    return _with_sound_goal(findings, _figure(metric, sub_type, {}, None, False), "bytes", at)


def _figure(
    metric: schema.Metric,
    sub_type: schema.SubType,
    options: Mapping[str, Any],
    backend: RegisteredComponent | None,
    higher: bool,
) -> Figure:
    return Figure(
        key=f"{metric.name}-{sub_type.name}",
        kind=metric.type,
        name=sub_type.name,
        data=metric.data_config,
        options=options,
        priority=sub_type.priority,
        higher_is_better=higher if sub_type.higher_is_better is None else sub_type.higher_is_better,
        backend=backend,
        goal=sub_type.goal,
    )


def _with_sound_goal(findings: Findings, figure: Figure, unit: str, at: Place) -> Figure:
    """The figure; a goal that makes no sense is a problem."""
    if figure.goal is not None and (reason := figure.goal.impossible(figure.higher_is_better, unit)):
        findings.problem((*at, "goal", "value"), reason)
    return figure


def _ranked(figures: list[Figure]) -> tuple[Figure, ...]:
    """Priorities from 1 without gaps: the user's own order first, then the unranked as written."""
    order = sorted(figures, key=lambda figure: figure.priority if figure.priority > 0 else len(figures) + 1)
    rank = {id(figure): position for position, figure in enumerate(order, 1)}
    return tuple(replace(figure, priority=rank[id(figure)]) for figure in figures)

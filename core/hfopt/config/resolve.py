"""From a document to a run config in which every name is resolved and every option validated.

All mistakes are collected before any is reported. Imports the components that the config names and nothing else: no
network, no user code, no framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from hfopt.api.config import Config, Surroundings, UnknownName
from hfopt.api.data import DataContainer
from hfopt.api.metrics import MetricBackend
from hfopt.api.model import ModelLoader
from hfopt.api.passes import Pass
from hfopt.config import schema
from hfopt.config.document import Document
from hfopt.config.problems import validate
from hfopt.errors import ExitCode, PluginError, Problem
from hfopt.plugins import Offer, Plugins, Unresolved, nearest
from hfopt.steps.timing import FIGURES, TIMED_KINDS, TimingConfig

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]

DEFAULT_SYSTEM = "local_system"
_DEFAULT_FIGURES: Mapping[str, tuple[str, ...]] = {
    "accuracy": (),
    "latency": ("avg",),
    "throughput": ("avg",),
    "size": ("bytes",),
}


@dataclass(frozen=True)
class Chosen:
    """A component that the config names, with its options.

    :param paths: the input paths among the options
    :param data: the data names among the options
    """

    offer: Offer
    cls: Any
    config: Config
    paths: tuple[Path, ...] = ()
    data: tuple[str, ...] = ()


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
    higher_is_better: bool | None
    backend: Offer | None = None


@dataclass(frozen=True)
class RunConfig:
    """A config that can be planned."""

    document: Document
    input_model: Chosen
    systems: Mapping[str, Chosen]
    data: Mapping[str, Chosen]
    figures: tuple[Figure, ...]
    passes: Mapping[str, Chosen]
    engine: schema.Engine
    host: str
    target: str
    notices: tuple[str, ...]


def resolve(document: Document, plugins: Plugins) -> RunConfig:
    """Check a config and resolve its names.

    :raises ConfigError: with every mistake; its exit code is MISSING if nothing but plugins is missing
    """
    if not isinstance(document.value, dict):
        raise document.error([Problem((), "a config is an object with input_model and passes")])
    return _Resolver(document, plugins).resolve()


class _Resolver:
    """Collects problems and notices while the sections are gone through."""

    def __init__(self, document: Document, plugins: Plugins) -> None:
        self.document = document
        self.plugins = plugins
        self.problems: list[Problem] = []
        self.notices: list[str] = []
        self.data_names: frozenset[str] | None = None

    def resolve(self) -> RunConfig:
        raw = self._known_keys(self.document.value, (), "", [*schema.SECTIONS])
        data_sections = self._data_sections(raw.get("data_configs"))
        self.data_names = _names(raw.get("data_configs"))
        engine = self._engine(raw.get("engine", {}))
        systems = self._systems(raw.get("systems"))
        input_model = self._input_model(raw)
        defaults = {} if input_model is None else input_model.cls.data_defaults(input_model.config)
        data = {name: self._data(section, place, defaults) for name, (section, place) in data_sections.items()}
        evaluators = self._evaluators(raw.get("evaluators"))
        passes = self._passes(raw)
        host = self._named_system(engine.host, "host", systems)
        target = self._named_system(engine.target, "target", systems)
        figures = self._chosen_evaluator(engine.evaluator, evaluators)
        if input_model is not None:
            self._check_chain(input_model, passes)
        if self.problems or input_model is None:
            raise self.document.error(self.problems)
        return RunConfig(
            document=self.document,
            input_model=input_model,
            systems=_present(systems),
            data=_present(data),
            figures=figures,
            passes=_present(passes),
            engine=engine,
            host=host,
            target=target,
            notices=tuple(dict.fromkeys(self.notices)),
        )

    # -- sections ---------------------------------------------------------------------------------------------------

    def _input_model(self, raw: Mapping[str, Any]) -> Chosen | None:
        if "input_model" not in raw:
            self._problem(("input_model",), "is required")
            return None
        section = self._model(schema.InputModel, raw["input_model"], ("input_model",), "input_model")
        if section is None:
            return None
        return self._component(
            "hfopt_model_loaders", section.type, section.config, ("input_model",), "config", ModelLoader
        )

    def _engine(self, raw: Any) -> schema.Engine:
        """The engine section; if it has mistakes, what can still be looked up of it, so that all mistakes are found."""
        engine = self._model(schema.Engine, raw, ("engine",), "engine")
        if engine is not None or not isinstance(raw, dict):
            return engine or schema.Engine()
        names = {key: raw[key] for key in ("host", "target", "evaluator") if isinstance(raw.get(key), str)}
        return schema.Engine.model_validate(names)

    def _systems(self, raw: Any) -> dict[str, Chosen | None]:
        systems: dict[str, Chosen | None] = {}
        for name, value in self._entries(raw, ("systems",)).items():
            section = self._model(schema.SystemSection, value, ("systems", name), "systems")
            systems[name] = None
            if section is not None:
                place = ("systems", name)
                systems[name] = self._component("hfopt_systems", section.type, section.config, place, "config")
        if DEFAULT_SYSTEM not in systems:
            systems[DEFAULT_SYSTEM] = self._component("hfopt_systems", "LocalSystem", {}, ("systems",), "config")
        return systems

    def _data_sections(self, raw: Any) -> dict[str, tuple[schema.DataSection, Place]]:
        if raw is not None and not isinstance(raw, list):
            self._problem(("data_configs",), "expected a list")
            return {}
        sections: dict[str, tuple[schema.DataSection, Place]] = {}
        for position, value in enumerate(raw or []):
            place = ("data_configs", position)
            section = self._model(schema.DataSection, value, place, "data_configs")
            if section is not None and section.name in sections:
                self._problem((*place, "name"), f"there are two data configs named {section.name!r}")
            elif section is not None:
                sections[section.name] = (section, place)
        return sections

    def _data(self, section: schema.DataSection, place: Place, defaults: Mapping[str, Any]) -> Chosen | None:
        return self._component(
            "hfopt_data_containers",
            section.type,
            section.params_config,
            place,
            "params_config",
            DataContainer,
            defaults,
        )

    def _passes(self, raw: Mapping[str, Any]) -> dict[str, Chosen | None]:
        if not raw.get("passes"):
            self._problem(("passes",), "is required: there must be at least one pass")
            return {}
        passes: dict[str, Chosen | None] = {}
        for name, value in self._entries(raw["passes"], ("passes",)).items():
            place = ("passes", name)
            section = self._model(schema.PassSection, value, place, "passes")
            passes[name] = None
            if section is not None:
                passes[name] = self._component("hfopt_passes", section.type, section.config, place, "config", Pass)
        return passes

    def _evaluators(self, raw: Any) -> dict[str, tuple[Figure, ...]]:
        evaluators = {}
        for name, value in self._entries(raw, ("evaluators",)).items():
            place = ("evaluators", name)
            if isinstance(value, dict) and isinstance(value.get("metrics"), list):
                metrics = [
                    self._without_refused_metric_keys(metric, (*place, "metrics", position))
                    for position, metric in enumerate(value["metrics"])
                ]
                value = {**value, "metrics": metrics}
            evaluator = self._model(schema.Evaluator, value, place, "evaluators")
            evaluators[name] = () if evaluator is None else self._figures(evaluator, place)
        return evaluators

    def _without_refused_metric_keys(self, metric: Any, place: Place) -> Any:
        metric = self._acceptable(metric, place, "metrics")
        if isinstance(metric, dict) and isinstance(metric.get("sub_types"), list):
            sub_types = [
                self._acceptable(sub_type, (*place, "sub_types", position), "sub_types")
                for position, sub_type in enumerate(metric["sub_types"])
            ]
            return {**metric, "sub_types": sub_types}
        return metric

    def _figures(self, evaluator: schema.Evaluator, place: Place) -> tuple[Figure, ...]:
        figures: list[Figure] = []
        seen: set[str] = set()
        for position, metric in enumerate(evaluator.metrics):
            at = (*place, "metrics", position)
            if metric.name in seen:
                self._problem((*at, "name"), f"there are two metrics named {metric.name!r}")
            seen.add(metric.name)
            known = self.data_names
            if metric.data_config is not None and known is not None and metric.data_config not in known:
                unknown = UnknownName("data config", metric.data_config, sorted(known))
                self._unknown_name((*at, "data_config"), unknown)
            if metric.type != "size" and metric.data_config is None:
                self._problem((*at, "data_config"), f"is required: {metric.type} needs rows to work on")
            figures += self._metric_figures(metric, at)
        return _ranked(figures)

    def _metric_figures(self, metric: schema.Metric, at: Place) -> list[Figure]:
        sub_types = metric.sub_types or tuple(schema.SubType(name=name) for name in _DEFAULT_FIGURES[metric.type])
        if not sub_types:
            self._problem((*at, "sub_types"), "is required: name at least one figure, such as accuracy")
        found = []
        for position, sub_type in enumerate(sub_types):
            place = (*at, "sub_types", position)
            if metric.type == "accuracy":
                found.append(self._accuracy_figure(metric, sub_type, place))
            elif metric.type == "size":
                found.append(self._size_figure(metric, sub_type, place))
            else:
                found.append(self._timed_figure(metric, sub_type, place))
        figures = [figure for figure in found if figure is not None]
        return self._timed_alike(figures, at) if metric.type in TIMED_KINDS else figures

    def _timed_alike(self, figures: list[Figure], at: Place) -> list[Figure]:
        """Figures of one metric come from the same timings: whichever of them states how, states it for all."""
        written = [figure.options for figure in figures if figure.options]
        if any(options != written[0] for options in written):
            self._problem(
                (*at, "sub_types"),
                "figures of one metric come from the same timings: their metric_config must agree",
            )
        options = written[0] if written else TimingConfig().model_dump(mode="json")
        return [replace(figure, options=options) for figure in figures]

    def _accuracy_figure(self, metric: schema.Metric, sub_type: schema.SubType, at: Place) -> Figure | None:
        try:
            offer = self.plugins.find("hfopt_metric_backends", metric.backend)
            backend: type[MetricBackend] = offer.load()
        except (Unresolved, PluginError) as error:
            self._unresolved((*at[:-2], "backend"), error)
            return None
        options = validate(backend.Config, sub_type.metric_config, (*at, "metric_config"), self.problems)
        if options is None:
            return None
        try:
            statistic = backend().statistic(sub_type.name, options)
        except UnknownName as error:
            self._unknown_name((*at, "name"), error)
            return None
        except ValueError as error:
            self._problem((*at, "metric_config"), str(error))
            return None
        return _figure(metric, sub_type, options.model_dump(mode="json"), offer, statistic.higher_is_better)

    def _timed_figure(self, metric: schema.Metric, sub_type: schema.SubType, at: Place) -> Figure | None:
        if sub_type.name not in FIGURES:
            self._unknown_name((*at, "name"), UnknownName(f"{metric.type} figure", sub_type.name, list(FIGURES)))
            return None
        options = validate(TimingConfig, sub_type.metric_config, (*at, "metric_config"), self.problems)
        written = options.model_dump(mode="json") if options is not None and sub_type.metric_config else {}
        return _figure(metric, sub_type, written, None, metric.type == "throughput")

    def _size_figure(self, metric: schema.Metric, sub_type: schema.SubType, at: Place) -> Figure | None:
        if sub_type.name != "bytes":
            self._unknown_name((*at, "name"), UnknownName("size figure", sub_type.name, ["bytes"]))
            return None
        return _figure(metric, sub_type, {}, None, False)

    # -- names between sections -------------------------------------------------------------------------------------

    def _named_system(self, name: str | None, key: str, systems: Mapping[str, Chosen | None]) -> str:
        if name is not None and name not in systems:
            written = sorted(set(systems) - {DEFAULT_SYSTEM})
            self._unknown_name(("engine", key), UnknownName("system", name, written))
        return name or DEFAULT_SYSTEM

    def _chosen_evaluator(self, name: str | None, evaluators: Mapping[str, tuple[Figure, ...]]) -> tuple[Figure, ...]:
        if name is None:
            return ()
        if name not in evaluators:
            self._unknown_name(("engine", "evaluator"), UnknownName("evaluator", name, sorted(evaluators)))
            return ()
        return evaluators[name]

    def _check_chain(self, input_model: Chosen, passes: Mapping[str, Chosen | None]) -> None:
        """Each pass must accept the type of model that the one before it makes."""
        current = input_model.offer.component.name
        for name, chosen in passes.items():
            if chosen is None:
                return
            if current not in chosen.cls.accepts:
                kind, wanted = chosen.offer.component.name, " or ".join(sorted(chosen.cls.accepts))
                makers = sorted(
                    offer.component.name
                    for offer in self.plugins.of_kind("hfopt_passes")
                    if getattr(_loaded(offer), "produces", None) in chosen.cls.accepts
                )
                hint = f"put {' or '.join(makers)} before it" if makers else None
                self._problem(("passes", name, "type"), f"{kind} takes {wanted}, and here it would get {current}", hint)
                return
            current = chosen.cls.produces or current

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _component(
        self,
        hook: str,
        name: str,
        options: Any,
        place: Place,
        options_key: str,
        base: type | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> Chosen | None:
        try:
            offer = self.plugins.find(hook, name)
            cls = offer.load()
        except (Unresolved, PluginError) as error:
            self._unresolved((*place, "type"), error)
            return None
        if base is not None and not (isinstance(cls, type) and issubclass(cls, base)):
            self._problem(
                (*place, "type"),
                f"{offer.full_name} is broken: {offer.component.target} is not a subclass of {base.__name__}",
            )
            return None
        around = Surroundings(self.document.folder, self.data_names)
        if defaults is not None:
            options = cls.with_defaults(options, defaults)
        config = validate(cls.Config, options, (*place, options_key), self.problems, around)
        self.notices += around.notices
        if config is None:
            return None
        return Chosen(offer, cls, config, tuple(around.used_paths), tuple(around.used_data))

    def _model(self, model: type[M], value: Any, place: Place, section: str) -> M | None:
        return validate(model, self._acceptable(value, place, section), place, self.problems)

    def _acceptable(self, value: Any, place: Place, section: str) -> Any:
        """The value without keys that this version refuses or ignores, each of which is reported."""
        if not isinstance(value, dict):
            return value
        kept = dict(value)
        for key, reason in schema.REFUSED.get(section, {}).items():
            if key in kept and kept.pop(key):
                self._problem((*place, key), reason)
        for key, notice in schema.IGNORED.get(section, {}).items():
            if kept.pop(key, None) is not None:
                self.notices.append(f"{'.'.join(map(str, (*place, key)))} is ignored: {notice}")
        return kept

    def _known_keys(self, value: dict[str, Any], place: Place, section: str, known: list[str]) -> dict[str, Any]:
        kept: dict[str, Any] = self._acceptable(value, place, section)
        for key in [key for key in kept if key not in known]:
            near = nearest(str(key), known)
            hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}"
            self._problem((*place, key), "unknown key", hint)
        return kept

    def _entries(self, raw: Any, place: Place) -> dict[str, Any]:
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            self._problem(place, "expected an object")
            return {}
        return raw

    def _problem(self, place: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(place, message, hint))

    def _unknown_name(self, place: Place, error: UnknownName) -> None:
        near = nearest(error.name, error.known)
        self._problem(place, str(error), f"did you mean {near!r}?" if near else None)

    def _unresolved(self, place: Place, error: Unresolved | PluginError) -> None:
        missing = isinstance(error, PluginError) or error.missing
        code = ExitCode.MISSING if missing else ExitCode.USAGE
        problem = Problem(place, error.message, error.hint, code)
        if problem not in self.problems:
            self.problems.append(problem)


def _names(data_configs: Any) -> frozenset[str] | None:
    """The names under data_configs, as far as they can be read; None if it is no list: then no name is unknown."""
    if data_configs is None:
        return frozenset()
    if not isinstance(data_configs, list):
        return None
    named = (entry.get("name") for entry in data_configs if isinstance(entry, dict))
    return frozenset(name for name in named if isinstance(name, str))


def _loaded(offer: Offer) -> Any:
    try:
        return offer.load()
    except PluginError:
        return None


def _present(chosen: Mapping[str, Chosen | None]) -> dict[str, Chosen]:
    return {name: each for name, each in chosen.items() if each is not None}


def _figure(
    metric: schema.Metric, sub_type: schema.SubType, options: Mapping[str, Any], backend: Offer | None, higher: bool
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
    )


def _ranked(figures: list[Figure]) -> tuple[Figure, ...]:
    """Priorities from 1 without gaps: the user's own order first, then the unranked as written."""
    order = sorted(figures, key=lambda figure: figure.priority if figure.priority > 0 else len(figures) + 1)
    rank = {id(figure): position for position, figure in enumerate(order, 1)}
    return tuple(replace(figure, priority=rank[id(figure)]) for figure in figures)

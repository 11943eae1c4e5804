"""From a document to a run config in which every name is resolved and every option validated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hfopt.api.parity import Parity
from hfopt.base.errors import PluginError, Problem
from hfopt.config import figures, schema
from hfopt.config.checker import Checker, ConfiguredComponent
from hfopt.config.document import Document
from hfopt.config.figures import Figure
from hfopt.config.olive import dialect
from hfopt.config.olive.data import normalize
from hfopt.config.problems import Place, keys_of, unknown_key
from hfopt.discovery.plugins import Plugins

T = TypeVar("T")

DEFAULT_SYSTEM = "local_system"


@dataclass(frozen=True)
class ConfiguredPass:
    """An entry of ``passes``.

    :param host: the system that runs it
    :param figures: what its model is measured by; None: nothing, unless it is the last
    :param output_name: where in the output folder its model is saved too
    :param parity: how its model's outputs are compared with those of the model before; None: they are not
    """

    component: ConfiguredComponent
    host: str
    figures: tuple[Figure, ...] | None = None
    output_name: str | None = None
    parity: Parity | None = None


@dataclass(frozen=True)
class RunConfig:
    """A config that can be planned.

    :param figures: what the result is measured by
    :param packagers: each with the name of the package
    """

    document: Document
    input_model: ConfiguredComponent
    systems: Mapping[str, ConfiguredComponent]
    data: Mapping[str, ConfiguredComponent]
    figures: tuple[Figure, ...]
    passes: Mapping[str, ConfiguredPass]
    engine: schema.Engine
    packagers: tuple[tuple[str, ConfiguredComponent], ...]
    host: str
    target: str
    notices: tuple[str, ...]


def resolve(document: Document, plugins: Plugins) -> RunConfig:
    """Check a config and resolve its names.

    :raises ConfigError: with every mistake; its exit code is MISSING if nothing but plugins is missing
    """
    if not isinstance(document.value, dict):
        raise document.error([Problem((), "a config is an object with input_model and passes")])
    raw, problems, notices = dialect.strip_unsupported(document.value)
    problems += [unknown_key((key,), schema.SECTIONS) for key in raw if key not in schema.SECTIONS]
    check = Checker(document, plugins, problems, notices, _data_names(raw.get("data_configs")))
    engine = _engine(check, raw.get("engine", {}))
    default = {DEFAULT_SYSTEM: {"type": "LocalSystem"}}
    systems = {
        name: _component(check, "hfopt_systems", schema.SystemSection, value, ("systems", name))
        for name, value in {**default, **check.entries(raw.get("systems"), ("systems",))}.items()
    }
    input_model = None
    if "input_model" in raw:
        written, place = raw["input_model"], ("input_model",)
        input_model = _component(check, "hfopt_model_loaders", schema.InputModel, written, place)
    else:
        check.problem(("input_model",), "is required")
    data = _data(check, raw.get("data_configs"), input_model, _data_root(check, raw.get("data_root")))
    evaluators = {
        name: figures.evaluator(check, value, ("evaluators", name))
        for name, value in check.entries(raw.get("evaluators"), ("evaluators",)).items()
    }
    check.known(("engine", "host"), "system", engine.host, systems)
    check.known(("engine", "target"), "system", engine.target, systems)
    wanted = _evaluator(check, engine.evaluator, ("engine", "evaluator"), evaluators)
    if not raw.get("passes"):
        check.problem(("passes",), "is required: there must be at least one pass")
    passes = {
        name: _pass(check, value, ("passes", name), engine, systems, evaluators)
        for name, value in check.entries(raw.get("passes") or {}, ("passes",)).items()
    }
    _check_passes(check, input_model, passes)
    _check_evaluators(check, engine, wanted, passes)
    packagers = _packagers(check, engine)
    if check.problems or input_model is None:
        raise document.error(check.problems)
    return RunConfig(
        document=document,
        input_model=input_model,
        systems=_valid(systems),
        data=_valid(data),
        figures=wanted or (),
        passes=_valid(passes),
        engine=engine,
        packagers=tuple(_valid(packagers).items()),
        host=engine.host or DEFAULT_SYSTEM,
        target=engine.target or DEFAULT_SYSTEM,
        notices=tuple(dict.fromkeys(check.notices)),
    )


def _valid(entries: Mapping[str, T | None]) -> dict[str, T]:
    return {name: entry for name, entry in entries.items() if entry is not None}


def _engine(check: Checker, raw: Any) -> schema.Engine:
    """The engine section; of one with mistakes, the names that it refers to, so that they are checked too."""
    engine = check.section(schema.Engine, raw, ("engine",))
    if engine is not None or not isinstance(raw, dict):
        return engine or schema.Engine()
    names = {key: raw[key] for key in ("host", "target", "evaluator") if isinstance(raw.get(key), str)}
    return schema.Engine.model_validate(names)


def _component(
    check: Checker, hook: str, model: type[schema.InputModel | schema.SystemSection], raw: Any, place: Place
) -> ConfiguredComponent | None:
    section = check.section(model, raw, place)
    return None if section is None else check.component(hook, section.type, section.config, place)


def _packagers(check: Checker, engine: schema.Engine) -> dict[str, ConfiguredComponent | None]:
    written = engine.packaging_config
    place: Place = ("engine", "packaging_config")
    entries = {place: written} if isinstance(written, schema.Packaging) else {}
    if isinstance(written, tuple):
        entries = {(*place, number): each for number, each in enumerate(written)}
    check.unique({(*at, "name"): each.name for at, each in entries.items()})
    return {each.name: check.component("hfopt_packagers", each.type, each.config, at) for at, each in entries.items()}


# -- data -----------------------------------------------------------------------------------------------------------


def _data_names(raw: Any) -> frozenset[str] | None:
    """The names under data_configs, as far as they can be read; None if it is not a list."""
    if not isinstance(raw, list | None):
        return None
    names = [entry.get("name") for entry in raw or () if isinstance(entry, dict)]
    return frozenset(name for name in names if isinstance(name, str))


def _data_root(check: Checker, raw: Any) -> tuple[Path, ...]:
    """The folder in which data paths are looked for first, if there is one."""
    if raw is None:
        return ()
    if not isinstance(raw, str):
        check.problem(("data_root",), "expected a string")
    elif "://" in raw:
        check.problem(("data_root",), "is not a local folder; this version does not fetch data from URLs")
    elif not (check.document.folder / raw).is_dir():
        check.problem(("data_root",), f"no such folder: {raw}")
    else:
        return (check.document.folder / raw,)
    return ()


def _data(
    check: Checker, raw: Any, input_model: ConfiguredComponent | None, roots: tuple[Path, ...]
) -> dict[str, ConfiguredComponent | None]:
    if not isinstance(raw, list | None):
        check.problem(("data_configs",), "expected a list")
        return {}
    sections: dict[Place, schema.DataSection] = {}
    for number, value in enumerate(raw or ()):
        place = ("data_configs", number)
        if (section := check.section(schema.DataSection, value, place)) is not None:
            sections[place] = section
    check.unique({(*place, "name"): section.name for place, section in sections.items()})
    defaults = {} if input_model is None else input_model.cls.data_defaults(input_model.config)
    return {section.name: _container(check, section, place, defaults, roots) for place, section in sections.items()}


def _container(
    check: Checker, section: schema.DataSection, place: Place, defaults: Mapping[str, Any], roots: tuple[Path, ...]
) -> ConfiguredComponent | None:
    registered = check.find("hfopt_data_containers", section.type, place)
    if registered is None:
        return None
    cls = registered.load()
    data = normalize(section, place, cls.components)
    before = len(check.problems)
    options = cls.with_defaults(data.params, defaults)
    chosen = check.configured(registered, options, (*place, "params_config"), roots)
    found = [replace(problem, path=data.written_at(problem.path)) for problem in check.problems[before:]]
    check.problems[before:] = [*data.problems, *found]
    return chosen


# -- passes ---------------------------------------------------------------------------------------------------------


def _pass(
    check: Checker,
    raw: Any,
    place: Place,
    engine: schema.Engine,
    systems: Collection[str],
    evaluators: Mapping[str, tuple[Figure, ...]],
) -> ConfiguredPass | None:
    section = check.section(schema.PassSection, raw, place)
    if section is None:
        return None
    check.known((*place, "host"), "system", section.host, systems)
    wanted = _evaluator(check, section.evaluator, (*place, "evaluator"), evaluators)
    registered = check.find("hfopt_passes", section.type, place)
    if registered is None:
        return None
    cls = registered.load()
    options, searched = dialect.fixed_options(section.config, keys_of(cls.Config), (*place, "config"))
    check.problems += searched
    chosen = check.configured(registered, options, (*place, "config"))
    if chosen is None:
        return None
    host = section.host or (engine.target if cls.measures else engine.host) or DEFAULT_SYSTEM
    parity = cls.keeps_outputs if section.parity is None else section.parity
    if isinstance(parity, bool):
        parity = Parity() if parity else None
    return ConfiguredPass(chosen, host, wanted, section.output_name, parity)


def _evaluator(
    check: Checker,
    written: str | dict[str, Any] | None,
    place: Place,
    evaluators: Mapping[str, tuple[Figure, ...]],
) -> tuple[Figure, ...] | None:
    """The figures of an evaluator that is named or written out in place."""
    if isinstance(written, dict):
        return figures.evaluator(check, written, place)
    check.known(place, "evaluator", written, evaluators)
    return None if written is None else evaluators.get(written)


def _check_passes(
    check: Checker, input_model: ConfiguredComponent | None, passes: Mapping[str, ConfiguredPass | None]
) -> None:
    """No two models are saved under one name, and each pass accepts the type of model that the one before it makes."""
    named = {name: entry.output_name for name, entry in _valid(passes).items() if entry.output_name is not None}
    check.unique({("passes", name, "output_name"): output_name for name, output_name in named.items()})
    current = None if input_model is None else input_model.registered.component.name
    for name, entry in passes.items():
        if entry is None or current is None:
            return
        cls = entry.component.cls
        if current not in cls.accepts:
            kind, wanted = entry.component.registered.component.name, " or ".join(sorted(cls.accepts))
            makers = _makers(check.plugins, cls.accepts)
            hint = f"put {' or '.join(makers)} before it" if makers else None
            if current == cls.produces:
                hint = f"leave it out: the model is {current} already"
            check.problem(("passes", name, "type"), f"{kind} takes {wanted}, but here it would get {current}", hint)
            return
        current = cls.produces or current


def _makers(plugins: Plugins, wanted: Collection[str]) -> list[str]:
    """The passes that make a model of one of some types; those that can't be imported are left out."""
    makers = []
    for registered in plugins.of_kind("hfopt_passes"):
        with suppress(PluginError):
            if registered.load().produces in wanted:
                makers.append(registered.component.name)
    return sorted(makers)


def _check_evaluators(
    check: Checker,
    engine: schema.Engine,
    wanted: tuple[Figure, ...] | None,
    passes: dict[str, ConfiguredPass | None],
) -> None:
    """A relative goal needs the input model evaluated (timings always include it); the last pass's evaluator wins."""
    own = [entry.figures for entry in _valid(passes).values() if entry.figures is not None]
    accuracy = [figure for each in (wanted or (), *own) for figure in each if figure.kind == "accuracy"]
    relative = [figure.key for figure in accuracy if figure.goal is not None and figure.goal.relative]
    for key in dict.fromkeys(() if engine.evaluate_input_model else relative):
        check.problem(
            ("engine", "evaluate_input_model"),
            f"the goal of {key} is relative to the input model, which is not evaluated",
            "set it to true, or write the goal as a threshold",
        )
    last = next(reversed(passes), "")
    if engine.evaluator is not None and (entry := passes.get(last)) is not None and entry.figures is not None:
        check.notices.append(f"engine.evaluator is ignored: passes.{last} is the last pass, and has one of its own")

"""From a document to a run config in which every name is resolved and every option validated."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hfopt.api.model import COMPOSITE
from hfopt.api.parity import Parity
from hfopt.base.errors import Place, Problem
from hfopt.config import figures, schema
from hfopt.config.checker import Checker, ConfiguredComponent, Entries, T, name_of
from hfopt.config.document import ENOUGH, Document
from hfopt.config.figures import Figure
from hfopt.config.olive import dialect
from hfopt.config.problems import Mistakes, keys_of, unknown_key, validate
from hfopt.discovery.plugins import Plugins

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
    raw, functions = dialect.take_functions(document.value)
    raw, problems, notices = dialect.strip_unsupported(raw)
    inline = dialect.take_inline(raw)
    unknown = [key for key in raw if key not in schema.SECTIONS]
    problems += [unknown_key((key,), schema.SECTIONS) for key in unknown[:ENOUGH]]
    check = Checker(document, plugins, problems, notices, None)
    data_written = _data_written(check, raw.get("data_configs"), inline["data_configs"] | functions)
    engine = _engine(check, raw.get("engine") or {})
    here = {("systems", DEFAULT_SYSTEM): {"type": "LocalSystem"}}
    systems_written = here | check.written(dict, raw.get("systems"), "systems") | inline["systems"]
    systems = check.entries("systems", systems_written, _component, "hfopt_systems")
    input_model = None
    if "input_model" in raw:
        input_model = check.attempt(_component, check, raw["input_model"], ("input_model",), "hfopt_model_loaders")
    else:
        check.problem(("input_model",), "is required")
    defaults = None if input_model is None else input_model.cls.data_defaults(input_model.config)
    data = check.entries("data_configs", data_written, _container, defaults, _data_root(check, raw.get("data_root")))
    evaluators_written = check.written(dict, raw.get("evaluators"), "evaluators") | inline["evaluators"]
    evaluators = check.entries("evaluators", evaluators_written, figures.evaluator)
    check.known(("engine", "host"), "system", engine.host, systems)
    check.known(("engine", "target"), "system", engine.target, systems)
    wanted = _evaluator(check, engine.evaluator, ("engine", "evaluator"), evaluators)
    if not raw.get("passes"):
        check.problem(("passes",), "is required: at least one, as this version chooses none by itself")
    ordered = _in_flow(check, raw.get("pass_flows"), check.written(dict, raw.get("passes"), "passes"))
    passes = check.entries("passes", ordered, _pass, engine, systems, evaluators)
    if not any(problem.path[:1] == ("pass_flows",) for problem in check.problems):
        _check_passes(check, input_model, passes)
    _check_evaluators(check, engine, wanted, passes)
    packagers = _packagers(check, engine)
    if check.problems or input_model is None:
        raise check.error()
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


def _valid(entries: Entries[T]) -> dict[Any, T]:
    return {name: entry for name, entry in entries.items() if entry is not None}


def _engine(check: Checker, raw: Any) -> schema.Engine:
    """The engine section; of one with mistakes, the names that it refers to, so that they are checked too."""
    engine = check.attempt(validate, schema.Engine, raw, ("engine",))
    written = raw if isinstance(raw, dict) else {}
    names = {key: written[key] for key in ("host", "target", "evaluator") if isinstance(written.get(key), str)}
    return engine or schema.Engine.model_validate(names)


def _component(check: Checker, raw: Any, place: Place, hook: str) -> ConfiguredComponent:
    return check.component(hook, validate(schema.Section, raw, place), place)


def _packagers(check: Checker, engine: schema.Engine) -> Entries[ConfiguredComponent]:
    written, place = engine.packaging_config, ("engine", "packaging_config")
    entries: dict[Place, schema.Packaging]
    if isinstance(written, schema.Packaging):
        entries = {place: written}
    else:
        entries = {(*place, number): each for number, each in enumerate(written or ())}
    check.unique({(*at, "name"): each.name for at, each in entries.items()})
    return {each.name: check.attempt(check.component, "hfopt_packagers", each, at) for at, each in entries.items()}


# -- data -----------------------------------------------------------------------------------------------------------


def _data_written(check: Checker, raw: Any, inline: Mapping[Place, Any]) -> dict[Place, Any]:
    """The entries of ``data_configs`` and those written out elsewhere, each once; the checker learns their names."""
    written = check.written(list, raw, "data_configs")
    for place, each in inline.items():
        if each not in written.values():
            written[place] = each
    names = {(*place, "name"): name_of("data_configs", place, each) for place, each in written.items()}
    check.unique(names)
    if isinstance(raw, list | None):
        check.data_names = frozenset(names.values()) - {None}
    return written


def _data_root(check: Checker, raw: Any) -> tuple[Path, ...]:
    """The folder in which data paths are looked for first, if there is one."""
    if raw in (None, ""):
        return ()
    if not isinstance(raw, str):
        check.problem(("data_root",), "expected a string")
    elif "://" in raw:
        check.problem(("data_root",), "is not a local folder; this version does not fetch data from URLs")
    elif not os.path.isdir(check.document.folder / raw):
        check.problem(("data_root",), f"no such folder: {raw}")
    else:
        return (check.document.folder / raw,)
    return ()


def _container(
    check: Checker, raw: Any, place: Place, defaults: Mapping[str, Any] | None, roots: tuple[Path, ...]
) -> ConfiguredComponent:
    section = validate(schema.DataEntry, raw, place)
    registered, cls = check.find("hfopt_data_containers", section.type, (*place, "type"))
    data = cls.read(validate(cls.Section, section.model_extra, place), defaults or {})
    check.problems += [replace(each, path=(*place, *each.path)) for each in data.problems]
    try:
        return check.configured(registered, data.params, (*place, "params_config"), roots)
    except Mistakes as mistakes:
        # Without the input model it can't be told what is missing.
        told = [each for each in mistakes.args if each.message != "is required" or defaults is not None]
        moved = [(*place, *data.written_at(each.path[len(place) :])) for each in told]
        raise Mistakes(*(replace(each, path=path) for each, path in zip(told, moved, strict=True))) from mistakes


# -- passes ---------------------------------------------------------------------------------------------------------


def _in_flow(check: Checker, flows: Any, written: Mapping[Place, Any]) -> Mapping[Place, Any]:
    """The passes that the only flow of ``pass_flows`` names, in its order; all of them, as written, without flows."""
    section = check.attempt(validate, schema.Flows, {"pass_flows": flows}, ())
    if section is None or not section.pass_flows:
        return written
    if len(section.pass_flows) > 1:
        check.problem(("pass_flows",), f"{dialect.NO_SEARCH}: of several flows, keep one")
        return written
    [flow] = section.pass_flows
    places: dict[Place, str] = {("pass_flows", 0, number): name for number, name in enumerate(flow)}
    names = dict.fromkeys(str(name) for _, name in written)
    check.unique(places)
    for place, name in places.items():
        check.known(place, "pass", name, names)
    left = names.keys() - flow
    check.notices += [f"passes.{name} is not run: pass_flows does not name it" for name in names if name in left]
    return {("passes", name): written[("passes", name)] for name in flow if ("passes", name) in written}


Evaluators = Entries[tuple[Figure, ...]]


def _pass(
    check: Checker, raw: Any, place: Place, engine: schema.Engine, systems: Collection[str], evaluators: Evaluators
) -> ConfiguredPass:
    section = validate(schema.PassSection, raw, place)
    check.known((*place, "host"), "system", section.host, systems)
    wanted = _evaluator(check, section.evaluator, (*place, "evaluator"), evaluators)
    registered, cls = check.find("hfopt_passes", section.type, (*place, "type"))
    options, searched = dialect.fixed_options(section.config, keys_of(cls.Config), (*place, "config"))
    check.problems += searched
    chosen = check.configured(registered, options, (*place, "config"))
    host = section.host or (engine.target if cls.measures else engine.host) or DEFAULT_SYSTEM
    parity = cls.keeps_outputs if section.parity is None else section.parity
    return ConfiguredPass(chosen, host, wanted, section.output_name, Parity() if parity is True else parity or None)


def _evaluator(check: Checker, written: str | None, place: Place, evaluators: Evaluators) -> tuple[Figure, ...] | None:
    """The figures of an evaluator."""
    check.known(place, "evaluator", written, evaluators)
    return evaluators.get(written) if written else None


def _check_passes(check: Checker, input_model: ConfiguredComponent | None, passes: Entries[ConfiguredPass]) -> None:
    """No two models are saved under one name, and each pass accepts the type of model that the one before it makes."""
    check.unique({("passes", name, "output_name"): entry.output_name for name, entry in _valid(passes).items()})
    current = frozenset[str]()
    if input_model is not None:
        current = input_model.cls.makes or frozenset({input_model.registered.component.name})
    for name, entry in passes.items():
        if entry is None or not current:
            return
        cls, kind = entry.component.cls, entry.component.registered.component.name
        if current.isdisjoint(cls.accepts) and COMPOSITE not in cls.accepts:  # whose parts are of the types that come
            wanted, got = (" or ".join(sorted(types)) for types in (cls.accepts, current))
            fact = f"{kind} takes {wanted}, but here it would get {got}"
            makers = " or ".join(_makers(check.plugins, cls.accepts))
            hint = f"put {makers} before it" if makers else None
            if current == {cls.produces}:
                hint = f"leave it out: the model is {got} already"
            check.problem(("passes", name, "type"), fact, hint)
            return
        current = frozenset({cls.produces}) if cls.produces else current


def _makers(plugins: Plugins, wanted: Collection[str]) -> list[str]:
    """The passes that make a model of one of some types; those that can't be imported are left out."""
    usable = [registered for registered in plugins.of_kind("hfopt_passes") if registered.problem() is None]
    return sorted(registered.component.name for registered in usable if registered.load().produces in wanted)


def _check_evaluators(
    check: Checker, engine: schema.Engine, wanted: tuple[Figure, ...] | None, passes: Entries[ConfiguredPass]
) -> None:
    """A relative goal needs the input model evaluated (timings always include it); the last pass's evaluator wins."""
    own = {name: entry.figures for name, entry in _valid(passes).items() if entry.figures is not None}
    relative = {
        figure.key
        for each in (wanted or (), *own.values())
        for figure in each
        if figure.backend is not None and figure.goal is not None and figure.goal.relative
    }
    for key in () if engine.evaluate_input_model else sorted(relative):
        check.problem(
            ("engine", "evaluate_input_model"),
            f"the goal of {key} is relative to the input model, which is not evaluated",
            "set it to true, or write the goal as a threshold",
        )
    last = next(reversed(passes), "")
    if engine.evaluator is not None and last in own:
        check.notices.append(f"engine.evaluator is ignored: passes.{last} is the last pass, and has one of its own")

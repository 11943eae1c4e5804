"""From a document to a run config in which every name is resolved and every option validated."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hfopt.api.choosing import PassChooser
from hfopt.base.errors import Place, Problem
from hfopt.config import figures, passes, schema
from hfopt.config.checker import Checker, ConfiguredComponent, Entries, T, name_of
from hfopt.config.document import ENOUGH, Document
from hfopt.config.figures import Figure
from hfopt.config.problems import Mistakes, unknown_key, validate
from hfopt.config.space import ConfiguredPass, SearchSpace
from hfopt.discovery.known import known as owners
from hfopt.discovery.plugins import Plugins

DEFAULT_SYSTEM = "local_system"


@dataclass(frozen=True)
class Search:
    """How the best model is looked for.

    :param space: all that may be tried
    """

    section: schema.SearchStrategy
    algorithm: ConfiguredComponent
    space: SearchSpace


@dataclass(frozen=True)
class RunConfig:
    """A config that can be planned.

    :param figures: what the result is measured by
    :param passes: in order; where there is a search, every pass that it may choose, with its first options
    :param packagers: each with the name of the package
    :param search: None: the passes are run as they are
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
    search: Search | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The systems that passes run on."""
        tried = self.passes.items() if self.search is None else self.search.space.every()
        return tuple(dict.fromkeys(entry.host for _, entry in tried))


def resolve(document: Document, plugins: Plugins) -> RunConfig:
    """Check a config and resolve its names.

    :raises ConfigError: with every mistake; its exit code is MISSING if nothing but plugins is missing
    """
    if not isinstance(document.value, dict):
        raise document.error([Problem((), "a config is an object with input_model and passes")])
    check = Checker(document, plugins, [], [], None)
    raw, elsewhere, derived = _translated(check)
    _sections(check, raw)
    data_written = _data_written(check, raw.get("data_configs"), elsewhere["data_configs"])
    engine = _engine(check, raw.get("engine") or {})
    here = {("systems", DEFAULT_SYSTEM): {"type": "LocalSystem"}}
    systems_written = here | check.written(dict, raw.get("systems"), "systems") | elsewhere["systems"]
    systems = check.entries("systems", systems_written, _component, "hfopt_systems")
    for name in [name for name, each in systems.items() if each is not None and each.resources]:
        check.problem(("systems", name), "names what lies elsewhere: paths of a system must be on this machine")
    input_model = None
    if "input_model" in raw:
        input_model = check.attempt(_component, check, raw["input_model"], ("input_model",), "hfopt_model_loaders")
    else:
        check.problem(("input_model",), "is required")
    defaults = None if input_model is None else input_model.cls.data_defaults(input_model.config)
    around = (defaults, _data_root(check, raw.get("data_root")))
    own = {place: each for place, each in data_written.items() if place not in derived}
    data = check.entries("data_configs", own, _container, *around)
    if None not in data.values():  # whose mistakes would be told again
        repeated = {place: each for place, each in data_written.items() if place in derived}
        data |= check.entries("data_configs", repeated, _container, *around)
    evaluators_written = check.written(dict, raw.get("evaluators"), "evaluators") | elsewhere["evaluators"]
    evaluators = check.entries("evaluators", evaluators_written, figures.evaluator)
    check.known(("engine", "host"), "system", engine.host, systems)
    check.known(("engine", "target"), "system", engine.target, systems)
    wanted = passes.evaluator(check, engine.evaluator, ("engine", "evaluator"), evaluators)
    raw = _with_passes(check, raw, input_model, systems.get(engine.target or DEFAULT_SYSTEM))
    space = _space(check, raw, input_model, passes.Surroundings(engine, systems, evaluators, DEFAULT_SYSTEM))
    ordered = dict(space.every()) if space is not None else {}
    _check_evaluators(check, engine, wanted, ordered)
    search = _search(check, engine, space)
    packagers = _packagers(check, engine)
    if check.problems or input_model is None:
        raise check.error()
    return RunConfig(
        document=document,
        input_model=input_model,
        systems=_valid(systems),
        data=_valid(data),
        figures=wanted or (),
        passes=ordered,
        engine=engine,
        packagers=tuple(_valid(packagers).items()),
        host=engine.host or DEFAULT_SYSTEM,
        target=engine.target or DEFAULT_SYSTEM,
        notices=tuple(dict.fromkeys(check.notices)),
        search=search,
    )


def _translated(check: Checker) -> tuple[dict[str, Any], Mapping[str, dict[Place, Any]], set[Place]]:
    """The config in hfopt's own words.

    :return: also the entries that stand outside of their sections, by section, and which of them repeat others
    """
    config: dict[str, Any] = check.document.value
    entries: dict[str, dict[Place, Any]] = defaultdict(dict)
    derived: set[Place] = set()
    for dialect in check.dialects:
        told = dialect.translate(config)
        config = told.config
        check.problems += told.problems
        check.notices += told.notices
        derived.update(told.derived)
        for section, found in told.entries.items():
            entries[section] |= found
    return config, entries, derived


def _valid(entries: Entries[T]) -> dict[Any, T]:
    return {name: entry for name, entry in entries.items() if entry is not None}


def _engine(check: Checker, raw: Any) -> schema.Engine:
    """The engine section; of one with mistakes, the names that it refers to, so that they are checked too."""
    engine = check.attempt(validate, schema.Engine, raw, ("engine",))
    written = raw if isinstance(raw, dict) else {}
    names = {key: written[key] for key in ("host", "target", "evaluator") if isinstance(written.get(key), str)}
    return engine or schema.Engine.model_validate(names)


def _sections(check: Checker, raw: Mapping[str, Any]) -> None:
    """Check the keys that plugins own, of which the checker then knows what they hold, and refuse those of nobody."""
    offered = {each.component.name: each for each in check.plugins.of_kind("hfopt_config_sections")}
    known = (*schema.SECTIONS, *offered)
    for key in islice((key for key in raw if key not in schema.SECTIONS), ENOUGH):
        if key in offered:
            section = check.attempt(check.configured, offered[key], raw[key], (key,))
            check.sections |= {} if section is None else {key: section.config}
        elif home := owners("hfopt_config_sections").get(key):
            check.notices.append(f"{key} is ignored: it needs {home.distribution}: {home.install}")
        else:
            check.problems.append(unknown_key((key,), known))


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


# -- passes and search ----------------------------------------------------------------------------------------------


def _with_passes(
    check: Checker, raw: dict[str, Any], model: ConfiguredComponent | None, target: ConfiguredComponent | None
) -> dict[str, Any]:
    """The config; if it names no passes, with those that a plugin chooses."""
    if raw.get("passes") and raw.get("auto_optimizer_config"):
        check.notices.append("auto_optimizer_config is ignored: passes are written")
    if raw.get("passes") or check.problems or model is None or target is None:
        return raw
    chooser = check.attempt(_chooser, check, raw.get("auto_optimizer_config") or {})
    if chooser is None:
        return raw
    models = model.cls.makes or {model.registered.component.name}
    offered = {registered.component.name for registered in check.plugins.of_kind("hfopt_passes")}
    sections, told = chooser.choose(raw, models, getattr(target.config, "accelerators", ()), offered)
    check.notices.append(told)
    if not sections.get("passes"):
        check.problem(("passes",), "is required: at least one, as none could be chosen")
    return {**raw, **sections}


def _chooser(check: Checker, options: Any) -> PassChooser:
    place = ("auto_optimizer_config",)
    registered, _ = check.find("hfopt_pass_choosers", "auto_optimizer", place)
    found = check.configured(registered, options, place)
    chooser: PassChooser = found.cls(found.config)
    return chooser


def _space(
    check: Checker, raw: Mapping[str, Any], input_model: ConfiguredComponent | None, around: passes.Surroundings
) -> SearchSpace | None:
    """All passes that may be run; None if there are mistakes in how they are written."""
    before = len(check.problems)
    written = check.written(dict, raw.get("passes"), "passes")
    flows = passes.flows(check, raw.get("pass_flows"), written, searched=around.engine.searched)
    if len(check.problems) > before:
        flows = []
    used = {name for flow in flows for name in flow} or {str(name) for _, name in written}
    stages = check.entries(
        "passes", {place: each for place, each in written.items() if place[1] in used}, passes.stage, around
    )
    if None in stages.values() or not flows or len(check.problems) > before:
        return None
    current = frozenset[str]()
    if input_model is not None:
        current = input_model.cls.makes or frozenset({input_model.registered.component.name})
    found = [[each for name in flow if (each := stages[name]) is not None] for flow in flows]
    for flow in found:
        passes.check_order(check, current, flow)
    space = SearchSpace(tuple(map(tuple, found)))
    check.unique({("passes", name, "output_name"): entry.output_name for name, entry in dict(space.every()).items()})
    return space


def _search(check: Checker, engine: schema.Engine, space: SearchSpace | None) -> Search | None:
    section = engine.search
    if section is None:
        return None
    place = ("engine", "search_strategy")
    if engine.evaluator is None and space is not None and not any(entry.figures for _, entry in space.every()):
        check.problem(place, "needs figures to choose by: set engine.evaluator")
    named = schema.Section(type=section.search_algorithm, config=section.search_algorithm_config)
    algorithm = check.attempt(_algorithm, check, named, place)
    return None if algorithm is None or space is None else Search(section, algorithm, space)


def _algorithm(check: Checker, named: schema.Section, place: Place) -> ConfiguredComponent:
    registered, _ = check.find("hfopt_search_algorithms", named.type, (*place, "search_algorithm"))
    return check.configured(registered, named.config, (*place, "search_algorithm_config"))


def _check_evaluators(
    check: Checker, engine: schema.Engine, wanted: tuple[Figure, ...] | None, passes: dict[str, ConfiguredPass]
) -> None:
    """A relative goal needs the input model evaluated (timings always include it); the last pass's evaluator wins."""
    own = {name: entry.figures for name, entry in passes.items() if entry.figures is not None}
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

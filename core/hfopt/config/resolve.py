"""From a document to a run config in which every name is resolved and every option validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hfopt.api.parity import Parity
from hfopt.base.errors import Problem
from hfopt.base.text import did_you_mean
from hfopt.config import figures, schema
from hfopt.config.document import Document
from hfopt.config.figures import Figure
from hfopt.config.findings import ConfiguredComponent, Findings, Place, loaded
from hfopt.config.olive.spelling import unify
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
    findings = Findings(document, plugins)
    raw = _known_keys(findings, document.value)
    data_sections = _data_sections(findings, raw.get("data_configs"))
    findings.data_names = _names(raw.get("data_configs"))
    engine = _engine(findings, raw.get("engine", {}))
    systems = _systems(findings, raw.get("systems"))
    input_model = _input_model(findings, raw)
    data = _data(findings, data_sections, input_model, _data_root(findings, raw.get("data_root")))
    evaluators = {
        name: figures.evaluator(findings, value, ("evaluators", name))
        for name, value in findings.entries(raw.get("evaluators"), ("evaluators",)).items()
    }
    host = _system_named(findings, engine.host, ("engine", "host"), systems) or DEFAULT_SYSTEM
    target = _system_named(findings, engine.target, ("engine", "target"), systems) or DEFAULT_SYSTEM
    wanted = _evaluator_chosen(findings, engine.evaluator, ("engine", "evaluator"), evaluators)
    passes = _passes(findings, raw, systems, evaluators, host, target)
    if input_model is not None:
        _check_chain(findings, input_model, passes)
    _check_goals(findings, engine, wanted or (), passes)
    last = list(passes)[-1] if passes else None
    if engine.evaluator is not None and last is not None and (entry := passes[last]) and entry.figures is not None:
        findings.notices.append(f"engine.evaluator is ignored: passes.{last} is the last pass, and has one of its own")
    packagers = _packagers(findings, engine)
    if findings.problems or input_model is None:
        raise document.error(findings.problems)
    return RunConfig(
        document=document,
        input_model=input_model,
        systems={name: chosen for name, chosen in systems.items() if chosen is not None},
        data={name: chosen for name, chosen in data.items() if chosen is not None},
        figures=wanted or (),
        passes={name: chosen for name, chosen in passes.items() if chosen is not None},
        engine=engine,
        packagers=packagers,
        host=host,
        target=target,
        notices=tuple(dict.fromkeys(findings.notices)),
    )


def _known_keys(findings: Findings, value: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = findings.acceptable(value, (), "")
    for key in [key for key in kept if key not in schema.SECTIONS]:
        hint = did_you_mean(str(key), schema.SECTIONS)
        hint = hint or f"known here: {', '.join(schema.SECTIONS)}"
        findings.problem((key,), "unknown key", hint)
    return kept


def _input_model(findings: Findings, raw: Mapping[str, Any]) -> ConfiguredComponent | None:
    place = ("input_model",)
    if "input_model" not in raw:
        findings.problem(place, "is required")
        return None
    section = findings.model(schema.InputModel, raw["input_model"], place, "input_model")
    if section is None:
        return None
    return findings.component("hfopt_model_loaders", section.type, section.config, place, "config")


def _engine(findings: Findings, raw: Any) -> schema.Engine:
    """The engine section; if it has mistakes, what can still be looked up of it, so that all mistakes are found."""
    engine = findings.model(schema.Engine, raw, ("engine",), "engine")
    if engine is not None or not isinstance(raw, dict):
        return engine or schema.Engine()
    names = {key: raw[key] for key in ("host", "target", "evaluator") if isinstance(raw.get(key), str)}
    return schema.Engine.model_validate(names)


def _packagers(findings: Findings, engine: schema.Engine) -> tuple[tuple[str, ConfiguredComponent], ...]:
    written = engine.packaging_config
    place: Place = ("engine", "packaging_config")
    entries = [(place, written)] if isinstance(written, schema.Packaging) else []
    if isinstance(written, tuple):
        entries = [((*place, number), each) for number, each in enumerate(written)]
    names = [each.name for _, each in entries]
    for number, (at, each) in enumerate(entries):
        if each.name in names[:number]:
            findings.problem((*at, "name"), f"there are two packages named {each.name!r}")
    found = [
        (each.name, findings.component("hfopt_packagers", each.type, each.config, at, "config")) for at, each in entries
    ]
    return tuple((name, chosen) for name, chosen in found if chosen is not None)


def _systems(findings: Findings, raw: Any) -> dict[str, ConfiguredComponent | None]:
    systems: dict[str, ConfiguredComponent | None] = {}
    for name, value in findings.entries(raw, ("systems",)).items():
        place = ("systems", name)
        section = findings.model(schema.SystemSection, value, place, "systems")
        systems[name] = None
        if section is not None:
            systems[name] = findings.component("hfopt_systems", section.type, section.config, place, "config")
    if DEFAULT_SYSTEM not in systems:
        systems[DEFAULT_SYSTEM] = findings.component("hfopt_systems", "LocalSystem", {}, ("systems",), "config")
    return systems


def _data_root(findings: Findings, raw: Any) -> tuple[Path, ...]:
    """Where data paths are looked for first."""
    if raw is None:
        return ()
    if not isinstance(raw, str):
        findings.problem(("data_root",), "expected a string")
        return ()
    if "://" in raw:
        findings.problem(("data_root",), "is not a local folder; data are not fetched from URLs in this version")
        return ()
    root = findings.document.folder / raw
    if not root.is_dir():
        findings.problem(("data_root",), f"no such folder: {raw}")
        return ()
    return (root,)


def _data_sections(findings: Findings, raw: Any) -> dict[str, tuple[schema.DataSection, Place]]:
    if raw is not None and not isinstance(raw, list):
        findings.problem(("data_configs",), "expected a list")
        return {}
    sections: dict[str, tuple[schema.DataSection, Place]] = {}
    for position, value in enumerate(raw or []):
        place = ("data_configs", position)
        section = findings.model(schema.DataSection, value, place, "data_configs")
        if section is not None and section.name in sections:
            findings.problem((*place, "name"), f"there are two data configs named {section.name!r}")
        elif section is not None:
            sections[section.name] = (section, place)
    return sections


def _data(
    findings: Findings,
    sections: Mapping[str, tuple[schema.DataSection, Place]],
    input_model: ConfiguredComponent | None,
    roots: tuple[Path, ...],
) -> dict[str, ConfiguredComponent | None]:
    defaults = {} if input_model is None else input_model.cls.data_defaults(input_model.config)
    return {name: _container(findings, section, place, defaults, roots) for name, (section, place) in sections.items()}


def _container(
    findings: Findings, section: schema.DataSection, place: Place, defaults: Mapping[str, Any], roots: tuple[Path, ...]
) -> ConfiguredComponent | None:
    registered = findings.find("hfopt_data_containers", section.type, place)
    if registered is None:
        return None
    cls = registered.load()
    spelling = unify(section, place, cls.components)
    before = len(findings.problems)
    options = cls.with_defaults(spelling.params, defaults)
    chosen = findings.configured(registered, options, (*place, "params_config"), roots)
    found = [replace(problem, path=spelling.written_at(problem.path)) for problem in findings.problems[before:]]
    findings.problems[before:] = [*spelling.problems, *found]
    return chosen


def _passes(
    findings: Findings,
    raw: Mapping[str, Any],
    systems: Mapping[str, ConfiguredComponent | None],
    evaluators: Mapping[str, tuple[Figure, ...]],
    host: str,
    target: str,
) -> dict[str, ConfiguredPass | None]:
    if not raw.get("passes"):
        findings.problem(("passes",), "is required: there must be at least one pass")
        return {}
    passes: dict[str, ConfiguredPass | None] = {}
    for name, value in findings.entries(raw["passes"], ("passes",)).items():
        place = ("passes", name)
        section = findings.model(schema.PassSection, value, place, "passes")
        passes[name] = None
        if section is None:
            continue
        own_host = _system_named(findings, section.host, (*place, "host"), systems)
        wanted = _evaluator_chosen(findings, section.evaluator, (*place, "evaluator"), evaluators)
        registered = findings.find("hfopt_passes", section.type, place)
        if registered is None:
            continue
        options = findings.fixed(registered.load().Config, section.config, (*place, "config"))
        chosen = findings.configured(registered, options, (*place, "config"))
        if chosen is not None:
            where = own_host or (target if chosen.cls.measures else host)
            passes[name] = ConfiguredPass(chosen, where, wanted, section.output_name, _parity(section.parity, chosen))
    _check_output_names(findings, passes)
    return passes


def _check_output_names(findings: Findings, passes: Mapping[str, ConfiguredPass | None]) -> None:
    """No two models are saved under one name."""
    taken: dict[str, str] = {}
    for name, entry in passes.items():
        if entry is None or entry.output_name is None:
            continue
        first = taken.setdefault(entry.output_name, name)
        if first != name:
            findings.problem(("passes", name, "output_name"), f"passes.{first} has output_name {entry.output_name} too")


def _parity(written: bool | Parity | None, chosen: ConfiguredComponent) -> Parity | None:
    if isinstance(written, Parity):
        return written
    return Parity() if (chosen.cls.keeps_outputs if written is None else written) else None


# -- names between sections -----------------------------------------------------------------------------------------


def _system_named(
    findings: Findings, name: str | None, place: Place, systems: Mapping[str, ConfiguredComponent | None]
) -> str | None:
    if name is not None and name not in systems:
        findings.unknown_name(place, "system", name, list(systems))
    return name


def _evaluator_chosen(
    findings: Findings,
    written: str | dict[str, Any] | None,
    place: Place,
    evaluators: Mapping[str, tuple[Figure, ...]],
) -> tuple[Figure, ...] | None:
    """The figures of an evaluator that is named, or written out in place."""
    if written is None:
        return None
    if isinstance(written, dict):
        return figures.evaluator(findings, written, place)
    if written not in evaluators:
        findings.unknown_name(place, "evaluator", written, list(evaluators))
        return None
    return evaluators[written]


def _check_chain(
    findings: Findings, input_model: ConfiguredComponent, passes: Mapping[str, ConfiguredPass | None]
) -> None:
    """Each pass must accept the type of model that the one before it makes."""
    current = input_model.registered.component.name
    for name, entry in passes.items():
        if entry is None:
            return
        cls = entry.component.cls
        if current not in cls.accepts:
            kind, wanted = entry.component.registered.component.name, " or ".join(sorted(cls.accepts))
            makers = sorted(
                registered.component.name
                for registered in findings.plugins.of_kind("hfopt_passes")
                if getattr(loaded(registered), "produces", None) in cls.accepts
            )
            hint = f"put {' or '.join(makers)} before it" if makers else None
            if current == cls.produces:
                hint = f"leave it out: {current} is what it makes"
            findings.problem(("passes", name, "type"), f"{kind} takes {wanted}, and here it would get {current}", hint)
            return
        current = cls.produces or current


def _check_goals(
    findings: Findings, engine: schema.Engine, wanted: tuple[Figure, ...], passes: Mapping[str, ConfiguredPass | None]
) -> None:
    """A goal that is relative to the input model needs it evaluated. Timings always include it."""
    if engine.evaluate_input_model:
        return
    own = [figure for entry in passes.values() if entry is not None for figure in entry.figures or ()]
    for figure in dict.fromkeys(each.key for each in (*wanted, *own) if each.kind == "accuracy" and _relative(each)):
        findings.problem(
            ("engine", "evaluate_input_model"),
            f"the goal of {figure} is relative to the input model, which is not evaluated",
            "set it to true, or write the goal as a threshold",
        )


def _relative(figure: Figure) -> bool:
    return figure.goal is not None and figure.goal.relative


def _names(data_configs: Any) -> frozenset[str] | None:
    """The names under data_configs, as far as they can be read; None if it is no list: then no name is unknown."""
    if data_configs is None:
        return frozenset()
    if not isinstance(data_configs, list):
        return None
    named = (entry.get("name") for entry in data_configs if isinstance(entry, dict))
    return frozenset(name for name in named if isinstance(name, str))

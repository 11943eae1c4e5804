"""``passes`` and ``pass_flows``: checked, with every combination of options that a search may choose."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Any

from hfopt.api.model import COMPOSITE
from hfopt.api.parity import Parity
from hfopt.api.search import Dimension
from hfopt.base.errors import Place, Problem
from hfopt.base.values import dotted
from hfopt.config import options as pass_options
from hfopt.config import schema
from hfopt.config.checker import Checker, ConfiguredComponent, Entries
from hfopt.config.figures import Figure
from hfopt.config.problems import Mistakes, validate
from hfopt.config.space import LEFT_OUT, ConfiguredPass, Stage, Variant
from hfopt.discovery.plugins import Plugins

MOST_ORDERS = 200
"""Combinations of passes that may stand in each other's place, of which each is checked."""
Evaluators = Entries[tuple[Figure, ...]]


@dataclass(frozen=True)
class Surroundings:
    """What the passes of a config may name, and where they run.

    :param systems: those that passes bring are added
    """

    engine: schema.Engine
    systems: Entries[ConfiguredComponent]
    evaluators: Evaluators
    default_system: str


def stage(check: Checker, raw: Any, place: Place, around: Surroundings) -> Stage:
    """An entry of ``passes``.

    :raises Mistakes: it is not of the right form
    """
    if not isinstance(raw, list):
        return Stage(str(place[1]), (_variant(check, raw, place, around),))
    if not around.engine.searched:
        raise Mistakes(Problem(place, *_no_search("is a list of passes")))
    if not any(raw):
        raise Mistakes(Problem(place, "names no pass"))
    entries = [(each, (*place, number)) for number, each in enumerate(raw)]
    found = [LEFT_OUT if each is None else check.attempt(_variant, check, each, at, around) for each, at in entries]
    return Stage(str(place[1]), tuple(each or LEFT_OUT for each in found))


def _variant(check: Checker, raw: Any, place: Place, around: Surroundings) -> Variant:
    section = validate(schema.PassSection, raw, place)
    check.known((*place, "host"), "system", section.host, around.systems)
    wanted = evaluator(check, section.evaluator, (*place, "evaluator"), around.evaluators)
    registered, cls = check.find("hfopt_passes", section.type, (*place, "type"))
    host = section.host
    if host is None and cls.host is not None:
        host, brought = dotted((*place, "host")), schema.Section.model_validate(cls.host)
        around.systems[host] = check.component("hfopt_systems", brought, (*place, "host"))
    at = (*place, "config")
    fill = around.engine.searched and not section.disable_search
    fixed, searched, problems = pass_options.read(section.config, cls, at, fill=fill)
    written = [name for name in searched if name in section.config]
    if written and not fill:
        told = ("has several values, and disable_search is true",) if section.disable_search else _no_search()
        problems.append(Problem((*at, written[0]), *told))
    if problems:
        raise Mistakes(*problems)
    count = prod(len(each.values) for each in searched.values())
    if count > pass_options.MOST_CHOICES:
        fact = f"has {count:,} combinations of values, more than the {pass_options.MOST_CHOICES:,} that are checked"
        raise Mistakes(Problem(at, fact, "write one value for some of them"))
    host = host or (around.engine.target if cls.measures else around.engine.host) or around.default_system
    parity = cls.keeps_outputs if section.parity is None else section.parity
    more = (host, wanted, section.output_name, Parity() if parity is True else parity or None)
    choices = {
        numbers: ConfiguredPass(chosen, *more)
        for numbers, chosen in _valid(check, registered, fixed, searched, at, written)
    }
    dimensions = (Dimension(f"{'.'.join(map(str, place))}.{name}", each.values) for name, each in searched.items())
    return Variant(registered.component.name, tuple(dimensions), choices)


def _no_search(fact: str = "has several values") -> tuple[str, str]:
    return f"{fact}, and engine.search_strategy is not set", "set it to true, or keep one"


def _valid(
    check: Checker,
    registered: Any,
    fixed: Mapping[str, Any],
    searched: Mapping[str, pass_options.Choices],
    place: Place,
    written: Collection[str],
) -> Iterator[tuple[tuple[int, ...], ConfiguredComponent]]:
    """The combinations that go together, of those that mean the same the first.

    :param written: options of which each value must be possible
    :raises Mistakes: those of the first combination if none does
    """
    refused: dict[tuple[int, ...], Mistakes] = {}
    seen: dict[str, tuple[int, ...]] = {}
    possible: list[tuple[int, ...]] = []
    notices = len(check.notices)
    for numbers, options in pass_options.combinations(fixed, searched):
        try:
            chosen = check.configured(registered, options, place)
        except Mistakes as mistakes:
            refused[numbers] = mistakes
            continue
        possible.append(numbers)
        fields, ignored = type(chosen.config).model_fields, chosen.config.ignored()
        usual = {name: each.default for name, each in fields.items() if (each.alias or name) in ignored}
        meaning = chosen.config.model_copy(update=usual).model_dump(mode="json")
        if seen.setdefault(json.dumps(meaning, sort_keys=True), numbers) == numbers:
            yield numbers, chosen
        if len(seen) == 1:
            notices = len(check.notices)  # a search's other points have their notices in their place
        del check.notices[notices:]
    if not seen:
        raise next(iter(refused.values()), None) or Mistakes(Problem(place, "no combination of its values is possible"))
    for at, name in enumerate(searched):
        for number, value in enumerate(searched[name].values if name in written else ()):
            if all(numbers[at] != number for numbers in possible):
                told = (problem for numbers, each in refused.items() if numbers[at] == number for problem in each.args)
                reason = next((problem.message for problem in told), "goes with no value of the other options")
                check.problem((*place, name), f"{json.dumps(value)}: {reason}")


def evaluator(check: Checker, written: str | None, place: Place, evaluators: Evaluators) -> tuple[Figure, ...] | None:
    """The figures of an evaluator."""
    check.known(place, "evaluator", written, evaluators)
    return evaluators.get(written) if written else None


# -- in which order -------------------------------------------------------------------------------------------------


def flows(check: Checker, raw: Any, written: Mapping[Place, Any], *, searched: bool) -> list[list[str]]:
    """The names of the passes of each flow; all of them, as written, without ``pass_flows``.

    A flow that can't be read, or names what is not there, is left out with a problem.
    """
    names = [str(name) for _, name in written]
    section = check.attempt(validate, schema.Flows, {"pass_flows": raw}, ())
    if section is None or not section.pass_flows:
        return [names]
    if len(section.pass_flows) > 1 and not searched:
        check.problem(("pass_flows",), *_no_search("has several flows"))
        return [names]
    for number, flow in enumerate(section.pass_flows):
        places: dict[Place, str] = {("pass_flows", number, at): name for at, name in enumerate(flow)}
        check.unique(places)
        for place, name in places.items():
            check.known(place, "pass", name, names)
    named = {name for flow in section.pass_flows for name in flow}
    check.notices += [f"passes.{name} is not run: pass_flows does not name it" for name in names if name not in named]
    return [[name for name in flow if name in names] for flow in section.pass_flows]


def check_order(check: Checker, current: frozenset[str], flow: list[Stage]) -> None:
    """Each pass accepts the type of model that the one before it makes, whichever stand in one place.

    :param current: the types that the input model may have; empty if they are not known
    """
    for chosen in islice(product(*(stage.variants for stage in flow)), MOST_ORDERS):
        found = [(stage.name, each.first) for stage, each in zip(flow, chosen, strict=True) if each.first is not None]
        if not _in_order(check, current, found):
            return


def _in_order(check: Checker, current: frozenset[str], passes: list[tuple[str, ConfiguredPass]]) -> bool:
    for name, entry in passes if current else ():
        cls, kind = entry.component.cls, entry.component.registered.component.name
        if current.isdisjoint(cls.accepts) and cls.accepts != {COMPOSITE}:  # whose parts are of the types that come
            wanted, got = (" or ".join(sorted(types)) for types in (cls.accepts, current))
            fact = f"{kind} takes {wanted}, but here it would get {got}"
            makers = " or ".join(_makers(check.plugins, cls.accepts))
            hint = f"put {makers} before it" if makers else None
            if current == {cls.produces}:
                hint = f"leave it out: the model is {got} already"
            check.problem(("passes", name, "type"), fact, hint)
            return False
        current = frozenset({cls.produces}) if cls.produces else current
    return True


def _makers(plugins: Plugins, wanted: Collection[str]) -> list[str]:
    """The passes that make a model of one of some types here; those that can't be imported are left out."""
    usable = [registered for registered in plugins.of_kind("hfopt_passes") if registered.problem() is None]
    offered = {registered.component.name: registered.load() for registered in usable}
    return sorted(name for name, cls in offered.items() if cls.produces in wanted and cls.host is None)

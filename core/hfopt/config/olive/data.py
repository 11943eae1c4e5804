"""The ways in which Olive's configs write data, normalized to one.

Up to 0.6.1 an option stands in ``params_config``, in its ``component_kwargs``, or in the ``params`` of ``components``;
from 0.6.2 on it stands in ``load_dataset_config`` and the like. A container takes ``params_config`` with
``component_kwargs``. Where the user wrote each option is remembered, so that mistakes are reported there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hfopt.base.errors import Problem
from hfopt.base.text import did_you_mean
from hfopt.config import schema
from hfopt.config.document import Place, dotted

COMPONENTS = tuple(schema.Components.model_fields)
_NESTED = "component_kwargs"


class Option(NamedTuple):
    """A value and where the user wrote it."""

    value: Any
    place: Place


Options = Mapping[str, Option]


@dataclass(frozen=True)
class NormalizedData:
    """A data config as its container takes it.

    :param params: ``params_config``, with ``component_kwargs`` for all options that are written by component
    :param places: for each option that was moved: its place in ``params_config``, and where the user wrote it
    :param default_place: where everything else is reported; None: at its own place, as there is a ``params_config``
    :param problems: contradictions, and components or types that the container does not have
    """

    params: Mapping[str, Any]
    places: Mapping[Place, Place] = field(default_factory=dict)
    default_place: Place | None = None
    problems: tuple[Problem, ...] = ()

    def written_at(self, place: Place) -> Place:
        """The place in the user's config of what stands at a place in ``params_config``."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.places:
                return (*self.places[place[:length]], *place[length:])
        return place if self.default_place is None else self.default_place


def normalize(
    section: schema.DataSection, place: Place, known: Mapping[str, Mapping[str, str | None]]
) -> NormalizedData:
    """Rewrite a data config as ``params_config`` with ``component_kwargs``.

    In the format of 0.6.1 the first value wins, in this order: ``component_kwargs``, ``params_config``,
    ``components``. A different value in the format of 0.6.2 is a problem, as either could be meant. Null is no value.

    :param place: where the section stands
    :param known: the container's components and their types, as in `hfopt.DataContainer.components`
    """
    top = (*place, "params_config")
    nested = section.params_config.get(_NESTED)
    if not isinstance(nested, dict | None):
        return NormalizedData(section.params_config)  # the container's own config reports this mistake
    flat = _options({name: value for name, value in section.params_config.items() if name != _NESTED}, top)
    by_component = dict(nested or {})
    places: dict[Place, Place] = {}
    problems: list[Problem] = []
    for component in COMPONENTS:
        written = _sections(section, component, place)
        inside = by_component.get(component) or {}
        if not written or not isinstance(inside, dict):
            continue
        if component not in known:
            problems += [_no_component(at, component, known) for at in written]
            continue
        options = _merged(_options(inside, (*top, _NESTED, component)), flat, written, problems)
        by_component[component] = {name: option.value for name, option in options.items()}
        places |= {(*top, _NESTED, component, name): option.place for name, option in options.items()}
        problems += _type_problems(component, written, known[component])
    params = {**section.params_config, _NESTED: by_component} if places else section.params_config
    default_place = None if "params_config" in section.model_fields_set else place
    return NormalizedData(params, places, default_place, tuple(problems))


def _options(values: Mapping[str, Any] | None, place: Place) -> Options:
    return {name: Option(value, (*place, name)) for name, value in (values or {}).items()}


def _sections(section: schema.DataSection, component: str, place: Place) -> dict[Place, schema.ComponentSection]:
    """What the config says of a component in the formats of 0.6.1 and 0.6.2, by place."""
    older, newer = getattr(section.components, component, None), getattr(section, f"{component}_config")
    both = {(*place, "components", component): older, (*place, f"{component}_config"): newer}
    return {at: said for at, said in both.items() if said is not None}


def _merged(
    inside: Options, flat: Options, written: Mapping[Place, schema.ComponentSection], problems: list[Problem]
) -> Options:
    """The options to write by component: those whose flat value does not win."""
    found = _ranked(inside, flat)
    for at, said in written.items():
        for options in (_options(said.params, (*at, "params")), _options(said.model_extra, at)):
            if isinstance(said, schema.OpenComponentSection):
                problems += _contradictions(found, options)
                found = _ranked(options, found)
            else:
                found = _ranked(found, options)
    return {name: option for name, option in found.items() if option is not flat.get(name)}


def _ranked(*sources: Options) -> dict[str, Option]:
    """For each option its first value that is not null; null if there is none."""
    found: dict[str, Option] = {}
    for source in sources:
        found |= {name: each for name, each in source.items() if name not in found or found[name].value is None}
    return found


def _contradictions(said: Options, again: Options) -> list[Problem]:
    """Options that have two different values. Null is none; true is not 1."""
    return [
        Problem(each.place, f"{dotted(said[name].place)} has another value", "keep one of the two")
        for name, each in again.items()
        if name in said and len({json.dumps(value) for value in (each.value, said[name].value)} - {"null"}) > 1
    ]


def _no_component(place: Place, component: str, known: Mapping[str, Any]) -> Problem:
    if known:
        return Problem(place, f"the container has no {component}; it has {', '.join(known)}")
    return Problem(place, "the container has no options by component", "write them in params_config")


def _type_problems(
    component: str, written: Mapping[Place, schema.ComponentSection], known: Mapping[str, str | None]
) -> list[Problem]:
    """What is wrong with the type that the config gives a component."""
    types = [_options({"type": said.type}, at) for at, said in written.items()]
    contradictions = _contradictions(types[0], types[-1])
    name, place = _ranked(*types)["type"]
    if contradictions or name is None:
        return contradictions
    for each, reason in known.items():
        if each.casefold() == name.casefold():
            return [] if reason is None else [Problem(place, reason)]
    able = ", ".join(each for each, reason in known.items() if reason is None) or "none"
    return [Problem(place, f"no {component} component named {name!r}; there is {able}", did_you_mean(name, known))]

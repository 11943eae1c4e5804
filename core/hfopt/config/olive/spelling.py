"""The ways in which Olive's configs write data, rewritten into one.

Up to 0.6.1 an option stands in ``params_config``, in its ``component_kwargs`` or in the ``params`` of ``components``;
from 0.6.2 on in ``load_dataset_config`` and its like. A container takes ``params_config`` with ``component_kwargs``;
where the user wrote each option is kept, so that a mistake is reported there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hfopt.base.errors import Problem
from hfopt.base.text import did_you_mean
from hfopt.config import schema
from hfopt.config.document import dotted
from hfopt.config.findings import Place

COMPONENTS = tuple(schema.Components.model_fields)
_NESTED = "component_kwargs"


class Option(NamedTuple):
    """A value and where the user wrote it."""

    value: Any
    place: Place


Options = Mapping[str, Option]


@dataclass(frozen=True)
class OneSpelling:
    """A data config as its container takes it.

    :param params: ``params_config``, with ``component_kwargs`` for all that is written by component
    :param places: of the options that were moved: the place that each has in ``params_config``, and the user's
    :param elsewhere: the place of everything else; None: its own, as there is a ``params_config``
    :param problems: options that are stated twice; components, or types of them, that the container does not have
    """

    params: Mapping[str, Any]
    places: Mapping[Place, Place] = field(default_factory=dict)
    elsewhere: Place | None = None
    problems: tuple[Problem, ...] = ()

    def written_at(self, place: Place) -> Place:
        """The place in the user's config of what stands at a place in ``params_config``."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.places:
                return (*self.places[place[:length]], *place[length:])
        return place if self.elsewhere is None else self.elsewhere


def unify(section: schema.DataSection, place: Place, known: Mapping[str, Mapping[str, str | None]]) -> OneSpelling:
    """Rewrite a data config into the one spelling.

    Of the ways of 0.6.1 the first that states an option wins: ``component_kwargs``, ``params_config``, ``components``.
    What the way of 0.6.2 states otherwise than these is a problem, as nothing says which is meant. Null states nothing.

    :param place: of the section
    :param known: the container's components with their types, as in `hfopt.DataContainer.components`
    """
    top = (*place, "params_config")
    nested = section.params_config.get(_NESTED)
    if not isinstance(nested, dict | None):
        return OneSpelling(section.params_config)  # a mistake, which the container's own config finds
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
    elsewhere = None if "params_config" in section.model_fields_set else place
    return OneSpelling(params, places, elsewhere, tuple(problems))


def _options(values: Mapping[str, Any] | None, place: Place) -> Options:
    return {name: Option(value, (*place, name)) for name, value in (values or {}).items()}


def _sections(section: schema.DataSection, component: str, place: Place) -> dict[Place, schema.ComponentSection]:
    """What is said of a component in the way of 0.6.1 and in that of 0.6.2, by its place."""
    older, newer = getattr(section.components, component, None), getattr(section, f"{component}_config")
    both = {(*place, "components", component): older, (*place, f"{component}_config"): newer}
    return {at: said for at, said in both.items() if said is not None}


def _merged(
    inside: Options, flat: Options, written: Mapping[Place, schema.ComponentSection], problems: list[Problem]
) -> Options:
    """The options that are written by component, without those of which the flat value counts."""
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
    """Of each option the first that states a value; null, if none does."""
    found: dict[str, Option] = {}
    for source in sources:
        found |= {name: each for name, each in source.items() if name not in found or found[name].value is None}
    return found


def _contradictions(said: Options, again: Options) -> list[Problem]:
    """What is stated twice, and not alike."""
    return [
        Problem(again[name].place, f"{dotted(said[name].place)} says otherwise", "keep one of the two")
        for name in again
        if name in said and _differ(said[name].value, again[name].value)
    ]


def _differ(one: Any, other: Any) -> bool:
    """Whether both state a value and not the same; true is not 1 here."""
    return one is not None and other is not None and (type(one) is not type(other) or one != other)


def _no_component(place: Place, component: str, known: Mapping[str, Any]) -> Problem:
    if known:
        return Problem(place, f"the container has no {component}; it has {', '.join(known)}")
    return Problem(place, "the container has no options by component", "write them in params_config")


def _type_problems(
    component: str, written: Mapping[Place, schema.ComponentSection], known: Mapping[str, str | None]
) -> list[Problem]:
    """What is wrong with the type that a component is said to have."""
    types = [_options({"type": said.type}, at) for at, said in written.items()]
    contradictions = _contradictions(types[0], types[-1])
    name, place = _ranked(*types)["type"]
    if contradictions or name is None:
        return contradictions
    reasons = {each.casefold(): reason for each, reason in known.items()}
    if name.casefold() in reasons:
        reason = reasons[name.casefold()]
        return [] if reason is None else [Problem(place, reason)]
    able = ", ".join(each for each, reason in known.items() if reason is None)
    hint = did_you_mean(name, known)
    message = f"no {component} component named {name!r}; there is {able or 'none'}"
    return [Problem(place, message, hint)]

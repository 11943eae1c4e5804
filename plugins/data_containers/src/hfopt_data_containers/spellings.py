"""The ways in which Olive's configs write data, normalized to one.

Up to 0.6.1 an option stands in ``params_config``, in its ``component_kwargs``, or in the ``params`` of ``components``;
from 0.6.2 on it stands in ``load_dataset_config`` and the like. A container takes ``params_config`` with
``component_kwargs``. Where the user wrote each option is remembered, so that mistakes are reported there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field

from hfopt import Config, Problem
from hfopt.api.data import DataSection, ReadData
from hfopt.api.text import did_you_mean

Place = tuple[str | int, ...]
_NESTED, _TOP = "component_kwargs", "params_config"
_NEWER = "As components.{}, in the way of Olive from 0.6.2 on; the keys of params may stand beside type."


class Option(NamedTuple):
    """A value and where the user wrote it."""

    value: Any
    place: Place


Options = Mapping[str, Option]


class ComponentSection(Config):
    """What ``components`` says of one of the container's components."""

    type: str | None = Field(None, description="One that components.md lists; null: what the container does.")
    params: dict[str, Any] | None = Field(None, description="This component's options.")


class OpenComponentSection(ComponentSection):
    """``load_dataset_config`` and its like: options may stand beside ``params``."""

    model_config = ConfigDict(extra="allow")


class Components(Config):
    """``components``."""

    load_dataset: ComponentSection | None = Field(None, description="How rows are loaded.")
    pre_process_data: ComponentSection | None = Field(None, description="How rows become model inputs.")
    post_process_data: ComponentSection | None = Field(None, description="How outputs become predictions.")
    dataloader: ComponentSection | None = Field(None, description="How rows are batched.")


class SpelledSection(DataSection):
    """What an entry of ``data_configs`` may hold besides its name and type."""

    user_script: str | None = Field(None, description="A Python file with functions that types and options name.")
    script_dir: str | None = Field(None, description="A folder from which user_script may import.")
    components: Components | None = Field(None, description="The same by component; params_config wins.")
    load_dataset_config: OpenComponentSection | None = Field(None, description=_NEWER.format("load_dataset"))
    pre_process_data_config: OpenComponentSection | None = Field(None, description=_NEWER.format("pre_process_data"))
    post_process_data_config: OpenComponentSection | None = Field(None, description=_NEWER.format("post_process_data"))
    dataloader_config: OpenComponentSection | None = Field(None, description=_NEWER.format("dataloader"))


def normalize(
    section: SpelledSection, known: Mapping[str, Mapping[str, str | None]], scripted: Collection[str] = ()
) -> ReadData:
    """Rewrite a data config as ``params_config`` with ``component_kwargs``.

    In the format of 0.6.1 the first value wins, in this order: ``component_kwargs``, ``params_config``,
    ``components``. A different value in the format of 0.6.2 is a problem, as either could be meant. Null is no value.

    :param known: the container's components, each with the types that a config may name for it, and why the container
        can't be had with that type; None: it can
    :param scripted: the components that may be functions of user_script
    """
    nested = section.params_config.get(_NESTED)
    if not isinstance(nested, dict | None):
        return ReadData(section.params_config)  # the container's own config reports this mistake
    flat = _options({name: value for name, value in section.params_config.items() if name != _NESTED}, (_TOP,))
    by_component = dict(nested or {})
    places: dict[Place, Place] = {}
    problems: list[Problem] = []
    for component, types in known.items():
        written = _sections(section, component)
        inside = by_component.get(component) or {}
        if not written or not isinstance(inside, dict):
            continue
        options = _merged(_options(inside, (_TOP, _NESTED, component)), flat, written, problems)
        by_component[component] = {name: option.value for name, option in options.items()}
        places |= {(_TOP, _NESTED, component, name): option.place for name, option in options.items()}
        of_script = section.user_script is not None and component in scripted
        problems += _type_problems(component, written, types, scripted=of_script)
    params = {**section.params_config, _NESTED: by_component} if places else section.params_config
    default_place = None if _TOP in section.model_fields_set else ()
    return ReadData(params, places, default_place, tuple(problems))


def types_of(section: SpelledSection, known: Mapping[str, Mapping[str, str | None]]) -> dict[str, str]:
    """The types that a data config gives components: as the container calls them, or functions of a script."""
    found = {}
    for component, types in known.items():
        written = [said.type for said in _sections(section, component).values() if said.type is not None]
        for name in written[:1]:
            found[component] = next((each for each in types if each.casefold() == name.casefold()), name)
    return found


def _options(values: Mapping[str, Any] | None, place: Place) -> Options:
    return {name: Option(value, (*place, name)) for name, value in (values or {}).items()}


def _sections(section: SpelledSection, component: str) -> dict[Place, ComponentSection]:
    """What the config says of a component in the formats of 0.6.1 and 0.6.2, by place."""
    older, newer = getattr(section.components, component, None), getattr(section, f"{component}_config")
    both: dict[Place, ComponentSection | None] = {("components", component): older, (f"{component}_config",): newer}
    return {at: said for at, said in both.items() if said is not None}


def _merged(
    inside: Options, flat: Options, written: Mapping[Place, ComponentSection], problems: list[Problem]
) -> Options:
    """The options to write by component: those whose flat value does not win."""
    found = _ranked(inside, flat)
    for at, said in written.items():
        for options in (_options(said.params, (*at, "params")), _options(said.model_extra, at)):
            if isinstance(said, OpenComponentSection):
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
        Problem(each.place, f"{'.'.join(map(str, said[name].place))} has another value", "keep one of the two")
        for name, each in again.items()
        if name in said and len({json.dumps(value) for value in (each.value, said[name].value)} - {"null"}) > 1
    ]


def _type_problems(
    component: str, written: Mapping[Place, ComponentSection], known: Mapping[str, str | None], *, scripted: bool
) -> list[Problem]:
    """What is wrong with the type that the config gives a component.

    :param scripted: whether it may be a function of a script
    """
    types = [_options({"type": said.type}, at) for at, said in written.items()]
    contradictions = _contradictions(types[0], types[-1])
    name, place = _ranked(*types)["type"]
    if contradictions or name is None:
        return contradictions
    for each, reason in known.items():
        if each.casefold() == name.casefold():
            return [] if reason is None else [Problem(place, reason)]
    if scripted:
        return []
    able = ", ".join(each for each, reason in known.items() if reason is None) or "none"
    return [Problem(place, f"no {component} component named {name!r}; there is {able}", did_you_mean(name, known))]

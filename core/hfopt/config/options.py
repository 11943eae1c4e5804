"""A pass's options as written: fixed ones, and those of which a search chooses a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import TypeAdapter

from hfopt.api.passes import Pass
from hfopt.base.errors import Place, Problem
from hfopt.config.problems import keys_of

MOST_CHOICES = 2000
"""Combinations of one pass's options: each is checked before anything runs."""
OLIVE = "olive_parameter_type"


@dataclass(frozen=True)
class Choices:
    """The values of an option among which a search chooses.

    :param by: other options on whose values it depends which are possible
    :param given: which are, by these values as text; under () if there are others
    """

    values: tuple[Any, ...]
    by: tuple[str, ...] = ()
    given: Mapping[tuple[str, ...], Sequence[Any]] | None = None

    def possible(self, value: Any, options: Mapping[str, Any]) -> bool:
        """Whether the value goes with the other options."""
        if self.given is None:
            return True
        return value in self.given.get(tuple(str(options.get(name)) for name in self.by), self.given.get((), ()))


def read(
    written: Mapping[str, Any], cls: type[Pass], place: Place, *, fill: bool
) -> tuple[dict[str, Any], dict[str, Choices], list[Problem]]:
    """The options that are fixed, those that are searched, and what is wrong with how they are written.

    :param place: of the options
    :param fill: whether those that are not written have the values that the pass offers
    """
    fixed: dict[str, Any] = {}
    searched: dict[str, Choices] = {}
    problems: list[Problem] = []
    known = keys_of(cls.Config)
    for name, value in written.items():
        if name not in known or not (found := _choices(name, value, cls)):
            fixed[name] = value  # an unknown name too, so that the pass's own config refuses it
        elif isinstance(found, str):
            problems.append(Problem((*place, name), found))
        elif found.values:
            searched[name] = found
    if fill:
        searched |= {name: Choices(tuple(each)) for name, each in cls.searchable.items() if name not in written}
    return fixed, searched, problems


def combinations(fixed: Mapping[str, Any], searched: Mapping[str, Choices]) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Which value of each searched option, and all options with these: the last option fastest."""
    for numbers in product(*(range(len(each.values)) for each in searched.values())):
        chosen = {name: each.values[at] for (name, each), at in zip(searched.items(), numbers, strict=True)}
        options = {**fixed, **chosen}
        if all(each.possible(options[name], options) for name, each in searched.items()):
            yield numbers, options


def _choices(name: str, value: Any, cls: type[Pass]) -> Choices | str | None:
    """What is searched, or what is wrong; None: the value is fixed. Without values: the option is left out."""
    if value == "DEFAULT_VALUE":
        return Choices(())
    if value == "SEARCHABLE_VALUES":
        own = cls.searchable.get(name)
        return Choices(tuple(own)) if own else 'this pass has no values of its own for it: write {"search": [...]}'
    if isinstance(value, dict) and OLIVE in value:
        return _olive(value)
    if isinstance(value, dict) and value.keys() == {"search"}:
        value = value["search"]
    elif not isinstance(value, list) or _takes_lists(name, cls):
        return None
    if not isinstance(value, list) or not value:
        return "a search needs a list of values"
    return Choices(tuple(value))


def _takes_lists(name: str, cls: type[Pass]) -> bool:
    """Whether a list may be the value of an option."""
    field = next(each for key, each in cls.Config.model_fields.items() if name in (key, each.alias))
    schema = str(TypeAdapter[Any](field.annotation or Any).json_schema())
    return "'array'" in schema or "'type'" not in schema


def _olive(parameter: Mapping[str, Any]) -> Choices | str:
    """A search parameter as Olive writes it."""
    kind, support = str(parameter.get("type")).casefold(), parameter.get("support")
    if kind == "boolean":
        return Choices(tuple(support) if isinstance(support, list) and support else (True, False))
    if kind == "categorical" and isinstance(support, list) and support:
        return Choices(tuple(support))
    parents = parameter.get("parents")
    if kind not in ("conditional", "conditionaldefault") or not isinstance(support, dict) or not parents:
        return "must be a Categorical, Boolean or Conditional search parameter, with its support"
    given = {tuple(re.findall(r"[\w.+-]+", key)): _supported(each) for key, each in support.items()}
    if parameter.get("default") is not None:
        given[()] = _supported(parameter["default"])
    values: Collection[Any] = [value for each in given.values() for value in each]
    return Choices(
        tuple(each for at, each in enumerate(values) if each not in list(values)[:at]), tuple(parents), given
    )


def _supported(value: Any) -> Sequence[Any]:
    """The values of a search parameter within another, or a single one."""
    found = _olive(value) if isinstance(value, dict) and OLIVE in value else Choices((value,))
    return found.values if isinstance(found, Choices) else ()

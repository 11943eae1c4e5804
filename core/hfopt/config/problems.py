"""Validation with pydantic, whose errors become problems in the words of the user's file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from importlib.resources import files
from itertools import islice
from operator import getitem
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hfopt.api.config import ConfigContext, OptionError, UnknownName
from hfopt.base.errors import Place, Problem
from hfopt.base.text import did_you_mean
from hfopt.base.values import dotted
from hfopt.config.document import ENOUGH
from hfopt.config.meaning import UNCLEAR, meant, models_in, without_blanks, words_in

M = TypeVar("M", bound=BaseModel)

_WORDS = tomllib.loads(files(__package__).joinpath("messages.toml").read_text("utf-8"))
_EXPECTED, _MESSAGES, _GOT = _WORDS["expected"], _WORDS["messages"], _WORDS["got"]


class Mistakes(Exception):
    """Leaves nothing to go on with. Its arguments are the problems."""

    args: tuple[Problem, ...]


_CANDIDATES = 200
"""Names of a config's own among which one that is near is looked for: there may be hundreds of mistakes."""


def validate(model: type[M], value: Any, place: Place, context: ConfigContext | None = None) -> M:
    """The value, read as `hfopt.config.meaning` says, as an instance of `model`.

    :param place: where the value stands in the config
    :raises Mistakes: with a problem for each mistake in it
    """
    value = without_blanks((model,), value)
    try:
        return model.model_validate_json(json.dumps(value), context=context)
    except ValidationError as error:
        if (corrected := _as_meant(error, value)) is not None:
            return validate(model, corrected, place, context)
        raise Mistakes(*explain(error, model, value, place)) from error


def _as_meant(error: ValidationError, value: Any) -> Any:
    """The value with what it can only mean in place of what is refused; None if nothing is clear."""
    clear = [
        (place, meaning)
        for detail in error.errors(include_url=False)
        if (meaning := meant(detail["type"], detail["input"], detail.get("ctx", {}))) is not UNCLEAR
        and (place := _place(detail, value))
    ]
    corrected = deepcopy(value) if clear else value
    for place, meaning in clear:
        reduce(getitem, place[:-1], corrected)[place[-1]] = meaning
    return None if json.dumps(corrected) == json.dumps(value) else corrected


def explain(error: ValidationError, model: type[BaseModel], value: Any, place: Place) -> list[Problem]:
    """One problem for each place. Of a union's branches, the one that got furthest counts."""
    by_place: dict[Place, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_place.setdefault(_place(detail, value), []).append(detail)
    further = {place[:end] for place in by_place for end in range(len(place))}
    wrong = (
        _problem(details, model, inner, place)
        for inner, details in by_place.items()
        if inner not in further or any(detail["type"] not in (*_EXPECTED, "too_short") for detail in details)
    )
    return list(islice(wrong, ENOUGH))


def unknown_key(place: Place, known: Sequence[str]) -> Problem:
    """A key that the object does not have."""
    hint = did_you_mean(str(place[-1]), known) or f"known here: {', '.join(known) or 'none'}"
    return Problem(place, "unknown key", hint)


def unknown_name(place: Place, error: UnknownName) -> Problem:
    """A name that the config does not define."""
    return Problem(place, str(error), did_you_mean(error.name, error.known[:_CANDIDATES]))


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that an object of this model may have, as the user writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _place(detail: ErrorDetails, value: Any) -> Place:
    """pydantic's location without the names of union branches, which are not keys of the user's."""
    place: list[str | int] = []
    for part in detail["loc"]:
        try:
            value = value[part]
        except (LookupError, TypeError):
            if detail["type"] != "missing" or part is not detail["loc"][-1]:
                continue
        place.append(part)
    return tuple(place)


def _problem(details: Sequence[ErrorDetails], model: type[BaseModel], inner: Place, outer: Place) -> Problem:
    """What is wrong at one place: `inner`, counted from the value, which stands at `outer`."""
    kind, written, context = details[0]["type"], details[0]["input"], details[0].get("ctx", {})
    place, cause = (*outer, *inner), context.get("error")
    if kind == "extra_forbidden":
        return unknown_key(place, _keys_at(model, inner[:-1]))
    if isinstance(cause, OptionError):
        place = place if inner[-len(cause.place) :] == cause.place else (*place, *cause.place)
        cause = cause.error
    if isinstance(cause, UnknownName):
        return unknown_name(place, cause)
    if cause is not None:
        return Problem(place, str(cause))
    if kind in _MESSAGES:
        shown = {name: f"{each:g}" if isinstance(each, float) else each for name, each in context.items()}
        words = [word.strip("'") for word in words_in(context["expected"])] if kind == "literal_error" else []
        return Problem(place, _MESSAGES[kind].format(**shown), did_you_mean(str(written), words))
    got = _GOT.get(type(written).__name__, "another value")
    if expected := dict.fromkeys(_EXPECTED[each["type"]] for each in details if each["type"] in _EXPECTED):
        return Problem(place, f"expected {' or '.join(expected)}, got {got}")
    return Problem(place, details[0]["msg"][0].lower() + details[0]["msg"][1:])


def _keys_at(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that the object at `place` may have."""
    models = [model]
    for part in place:
        fields = [each.model_fields[part] for each in models if part in each.model_fields]
        models = [found for field in fields for found in models_in(field.annotation)] or models
    return sorted({key for found in models for key in keys_of(found)})


def once(problems: Sequence[Problem]) -> list[Problem]:
    """Problems without those whose cause another one has said: the first of a refusal tells the others' places."""
    kept: list[Problem] = []
    refused: dict[str, list[Problem]] = {}
    for each in problems:
        alone = "this version" in each.message and each.hint is None
        cause = each.message if alone else None
        (kept if cause is None else refused.setdefault(cause, [])).append(each)
    for first, *others in refused.values():
        hint = f"likewise {', '.join(dotted(each.path) for each in others)}"
        kept.append(replace(first, hint=hint) if others else first)
    return kept

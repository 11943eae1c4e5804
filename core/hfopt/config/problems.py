"""What pydantic finds wrong with a value, in the words of the user's file."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hfopt.api.config import ConfigContext, OptionError, UnknownName
from hfopt.base.errors import Problem
from hfopt.base.text import did_you_mean

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
}
_JSON_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def validate(
    model: type[M], value: Any, path: Path, problems: list[Problem], around: ConfigContext | None = None
) -> M | None:
    """The value as an instance of `model`, or None with every mistake added to `problems`."""
    try:
        return model.model_validate_json(json.dumps(value), context=around)
    except ValidationError as error:
        problems += explain(error, model, value, path)
    except (TypeError, ValueError):
        problems.append(Problem(path, "holds a value that JSON has no form for (a date, or not a number)"))
    return None


def explain(error: ValidationError, model: type[BaseModel], value: Any, path: Path) -> list[Problem]:
    """One problem per place; of the branches of a union, the one that came furthest."""
    by_place: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_place.setdefault(_place(detail, value), []).append(detail)
    problems = []
    for place, details in by_place.items():
        deeper = any(other != place and other[: len(place)] == place for other in by_place)
        if deeper and all(detail["type"] in (*_EXPECTED, "too_short") for detail in details):
            continue
        problems.append(_problem(details, model, value, place, path))
    return problems


def _place(detail: ErrorDetails, value: Any) -> Path:
    """pydantic's location without the names of union branches, which are not keys of the user's."""
    place: list[str | int] = []
    for part in detail["loc"]:
        in_object = isinstance(value, dict) and part in value
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_object or in_list:
            value = value[part]
        elif not (detail["type"] == "missing" and part is detail["loc"][-1]):
            continue
        place.append(part)
    return tuple(place)


def _problem(details: Sequence[ErrorDetails], model: type[BaseModel], value: Any, place: Path, path: Path) -> Problem:
    detail = details[0]
    kind, cause = detail["type"], detail.get("ctx", {}).get("error")
    if isinstance(cause, OptionError):
        place, cause = (place if place[-1:] == (cause.option,) else (*place, cause.option)), cause.error
    if kind == "extra_forbidden":
        known = _fields_at(model, place[:-1])
        hint = did_you_mean(str(place[-1]), known)
        hint = hint or f"known here: {', '.join(known)}"
        return Problem(path + place, "unknown key", hint)
    if kind == "string_too_short":
        return Problem(path + place, "must not be empty")
    if kind == "too_short":
        return Problem(path + place, f"needs at least {detail['ctx']['min_length']}; here are none")
    if kind == "missing":
        return Problem(path + place, "is required")
    if isinstance(cause, UnknownName):
        hint = did_you_mean(cause.name, cause.known)
        return Problem(path + place, str(cause), hint)
    if cause is not None:
        return Problem(path + place, str(cause))
    expected = list(dict.fromkeys(_EXPECTED[each["type"]] for each in details if each["type"] in _EXPECTED))
    if expected:
        return Problem(path + place, f"expected {' or '.join(expected)}, got {_describe(_at(value, place))}")
    if kind in _BOUNDS:
        bounds = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in detail["ctx"].items()}
        return Problem(path + place, _BOUNDS[kind].format(**bounds))
    if kind == "literal_error":
        return Problem(path + place, f"must be {detail['ctx']['expected']}", _near_literal(detail))
    return Problem(path + place, detail["msg"][0].lower() + detail["msg"][1:])


def _near_literal(detail: ErrorDetails) -> str | None:
    choices = [choice.strip("'") for choice in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    if str(detail["input"]) in choices:
        return "a number is written without quotes"
    return did_you_mean(str(detail["input"]), choices)


def _at(value: Any, place: Path) -> Any:
    for part in place:
        value = value[part]
    return value


def _describe(value: Any) -> str:
    return "null" if value is None else _JSON_NAMES.get(type(value), type(value).__name__)


def _fields_at(model: type[BaseModel], place: Path) -> list[str]:
    """The keys that the object at `place` may have."""
    models = [model]
    for part in place:
        annotations = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if annotations:
            models = [found for annotation in annotations for found in _models_in(annotation)]
    return sorted({key for found in models for key in keys_of(found)})


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that an object of this model may have, as the user writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]

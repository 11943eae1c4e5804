"""What was meant by a value that is not of its option's type and yet can mean only one thing.

Null and "" for an option that has a default are the option left out; "13" is 13 where a number is wanted, "true" and 1
are true; case does not matter among fixed words.
"""

from __future__ import annotations

import json
import typing
from ast import literal_eval
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hfopt.base.values import is_number

UNCLEAR = object()
"""Of a value that may mean several things, or nothing."""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this type is or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in models_in(argument)]


def without_blanks(models: Iterable[type[BaseModel]], value: Any) -> Any:
    """A value without the null and "" that stand for a default; null stays where it is valid."""
    fields = {field.alias or name: field for model in models for name, field in model.model_fields.items()}
    if isinstance(value, list):
        return [without_blanks(models, each) for each in value] if fields else value
    if not isinstance(value, dict) or not fields:
        return value
    return {
        key: without_blanks(models_in(fields[key].annotation) if key in fields else (), each)
        for key, each in value.items()
        if key not in fields or not _is_blank(each, fields[key])
    }


def _is_blank(value: Any, field: FieldInfo) -> bool:
    may_be_null = field.annotation is Any or type(None) in typing.get_args(field.annotation)
    return not field.is_required() and (value == "" or (value is None and not may_be_null))


def meant(kind: str, written: Any, context: Mapping[str, Any]) -> Any:
    """What a value means that pydantic refuses, or `UNCLEAR`.

    :param kind: the type of pydantic's error
    :param context: the error's
    """
    if kind == "literal_error":
        return _word(written, context["expected"])
    read = written
    if isinstance(written, str):
        with suppress(ValueError, RecursionError):
            read = json.loads(written.casefold())
    if kind == "bool_type" and read in (0, 1):  # and so are false and true
        return bool(read)
    if type(read) not in (int, float) or not is_number(read):
        return UNCLEAR
    if kind in ("int_type", "int_from_float") and read == int(read):
        return int(read)
    return read if kind == "float_type" else UNCLEAR


def words_in(expected: str) -> list[str]:
    """The fixed words that pydantic expects, as Python writes them: ``'cpu', 'gpu' or 'npu'``."""
    return expected.replace(" or ", ", ").split(", ")


def _word(written: Any, expected: str) -> Any:
    """The one of some fixed words that is written with another case, or as text instead of a number."""
    same = [word for word in words_in(expected) if word.strip("'").casefold() == str(written).casefold()]
    return literal_eval(same[0]) if len(same) == 1 else UNCLEAR

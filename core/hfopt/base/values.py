"""JSON values, walked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from hfopt.base.errors import Place
from hfopt.base.secrets import without_credentials


def strings_in(value: Any) -> list[str]:
    """Every string in a JSON value, except keys."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for each in inside for text in strings_in(each)]


def place_of(text: str, value: Any) -> Place | None:
    """Where a string stands first in a JSON value."""
    if value == text:
        return ()
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    below = (((key,), place_of(text, each)) for key, each in parts)
    return next((key + place for key, place in below if place is not None), None)


def texts_in(value: Any) -> list[str]:
    """Every string in a JSON value, and every key."""
    if isinstance(value, dict):
        return [*value, *(text for each in value.values() for text in texts_in(each))]
    return [text for each in value for text in texts_in(each)] if isinstance(value, list) else strings_in(value)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every string changed, except keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_strings(each, change) for key, each in value.items()}
    return [map_strings(each, change) for each in value] if isinstance(value, list | tuple) else value


def replace_strings(value: Any, replacements: Mapping[str, str]) -> Any:
    """A JSON value with some strings replaced by others."""
    return map_strings(value, lambda text: replacements.get(text, text))


MOST_VALUES = 20_000
"""What a config may hold at most, and so far below no work on it takes long."""
MOST_CHARACTERS = 500_000
MOST_LEVELS = 50
_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,255}")
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CREDENTIALS = (
    "holds a password, a token or a signed address: a config is copied into run.json; "
    "the hub's token is that of HF_TOKEN or `hf auth login`"
)


def is_number(value: float) -> bool:
    """Whether every reader of JSON takes a number for what it is: finite, and an integer has at most 64 bits."""
    return -(2**63) <= value < 2**64 if isinstance(value, int) else isfinite(value)


class TooMuch(Exception):
    """A value holds so much that it is not looked at to its end."""


def plain(value: Any, faults: dict[Place, str]) -> Any:
    """A copy of a value, made of what JSON has: objects, lists, strings, finite numbers, booleans, null.

    :param faults: is given what else there is, by place
    :raises TooMuch: it holds too much, each thing counted as often as it is referred to
    """
    values, characters = 0, 0

    def copy(value: Any, place: Place) -> Any:
        nonlocal values, characters
        values += 1
        characters += len(value) if isinstance(value, str) else 0
        if values > MOST_VALUES or characters > MOST_CHARACTERS:
            raise TooMuch(f"holds more than {MOST_VALUES:,} values, or {MOST_CHARACTERS:,} characters in them")
        if len(place) > MOST_LEVELS:
            raise TooMuch(f"is nested deeper than {MOST_LEVELS} levels, or holds itself")
        if isinstance(value, dict):
            return {
                name: copy(each, (*place, name)) for name, each in zip(keys(value, place), value.values(), strict=True)
            }
        if isinstance(value, list | tuple):
            return [copy(each, (*place, number)) for number, each in enumerate(value)]
        if (found := _fault(value)) is not None:
            faults[place] = found
        return value

    def keys(value: dict[Any, Any], place: Place) -> Iterator[str]:
        for written in value:
            key = str(written) if type(written) is int and is_number(written) else written
            if not isinstance(key, str):
                faults[place] = f"has a key of type {type(key).__name__}: a key is text"
            elif not _KEY.fullmatch(key):
                faults[(*place, key)] = "a key is at most 255 characters of text, on one line"
            elif without_credentials(key) != key:
                faults[place] = _CREDENTIALS
            yield key

    return copy(value, ())


def _fault(value: Any) -> str | None:
    """Why something is no string, number, boolean or null."""
    if isinstance(value, str):
        if (found := _NO_TEXT.search(value)) is not None:
            return f"holds the character {found[0]!a}, which is no text"
        return _CREDENTIALS if without_credentials(value) != value else None
    if isinstance(value, int | float):
        return None if is_number(value) else "must be a finite number, and an integer has 64 bits at most"
    return None if value is None else f"is a {type(value).__name__}, which JSON does not have: write it as a string"


def dotted(path: Sequence[str | int]) -> str:
    """``('passes', 'q', 'nodes', 0)`` as ``passes.q.nodes[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")

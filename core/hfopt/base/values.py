"""JSON values, walked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def strings_in(value: Any) -> list[str]:
    """Every string in a JSON value, except keys."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for each in inside for text in strings_in(each)]


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

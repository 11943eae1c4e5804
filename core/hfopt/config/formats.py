"""JSON (with comments and trailing commas), YAML and TOML: each as a value, and the lines where its parts stand.

A text that would take long, or much memory, is refused before its parser has it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from hfopt.base.errors import Place
from hfopt.base.values import MOST_LEVELS, MOST_VALUES

Lines = dict[Place, int]

_QUOTED = r'"(?:\\.|[^"\\\n])*+"?'
"""A string; one without an end goes on to the line's, so that nothing is looked at twice."""
_STRING_OR_COMMENT = re.compile(rf"({_QUOTED})|//[^\n]*|/\*(?:[^*]|\*(?!/))*+(?:\*/)?")
_STRING_OR_TRAILING_COMMA = re.compile(rf"({_QUOTED})|,(?=\s*+[}}\]])")
_JSON_TOKEN = re.compile(rf"{_QUOTED}|[\[\]{{}},:\n]|[^\s\[\]{{}},:\"]+")
_LONG_NUMBER = re.compile(r"(?<![0-9_])[0-9_]{1000}")
_TOML_STRING = re.compile(rf"{_QUOTED}|'[^'\n]*+'?")
_TOML_DEEP = re.compile(rf"(?:\.[\w \t-]*+){{{MOST_LEVELS}}}")
_TOML_PART = rf"(?:[\w-]++|{_QUOTED}|'[^'\n]*+')"
_TOML_PLACE = re.compile(rf"[ \t]*+(\[\[?)?[ \t]*+({_TOML_PART}(?:[ \t]*+\.[ \t]*+{_TOML_PART})*+)[ \t]*+[\]=]")
_YAML_NUMBERS = {
    "int": re.compile(r"[-+]?(?:0b[01]+|0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9_]*)$"),
    "float": re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
}


class Unreadable(Exception):
    """A text is not of its format.

    :param line: where
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str, suffix: str) -> tuple[Any, Callable[[], Mapping[Place, int]]]:
    """A text's value, and what finds its lines, once.

    :raises Unreadable: it is not of the format with that suffix
    """
    if (found := _LONG_NUMBER.search(text)) is not None:
        raise Unreadable("a number has 1,000 digits or more", text.count("\n", 0, found.start()) + 1)
    return PARSERS[suffix](text)


def _json(text: str) -> tuple[Any, Callable[[], Lines]]:
    plain = _STRING_OR_TRAILING_COMMA.sub(lambda match: match[1] or " ", _STRING_OR_COMMENT.sub(_blank, text))
    if not plain.strip():
        raise Unreadable("is empty")
    try:
        value = json.loads(plain)
    except json.JSONDecodeError as error:
        raise Unreadable(f"{error.msg} (column {error.colno})", error.lineno) from error
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    lines: Lines = {}
    for place, line in _json_places(plain):
        if place in lines:
            raise Unreadable(_twice(place[-1]), line)
        lines[place] = line
        _bound(place, lines)
    return value, lambda: lines


def _blank(match: re.Match[str]) -> str:
    return match[1] or re.sub(r"[^\n]", " ", match[0])


def _json_places(text: str) -> Iterator[tuple[Place, int]]:
    """Every key and element of JSON, with its line."""
    place: list[Any] = []  # of each open object the key, None before it; of each open list the position
    line = 1
    for mark in (match[0] for match in _JSON_TOKEN.finditer(text)):
        if mark == "\n":
            line += 1
        elif mark in "]}":
            place.pop()
        elif mark == ",":
            place[-1] = place[-1] + 1 if isinstance(place[-1], int) else None
        elif mark != ":":
            if place and not isinstance(place[-1], str):
                place[-1] = json.loads(mark) if place[-1] is None else place[-1]
                yield tuple(place), line
            if mark in "[{":
                place.append(0 if mark == "[" else None)


def _bound(place: Place, lines: Lines) -> None:
    """Stop at what no config needs.

    :raises Unreadable: there are too many places, or this one lies too deep
    """
    if len(lines) > MOST_VALUES:
        raise Unreadable(f"holds more than {MOST_VALUES:,} values", lines[place])
    if len(place) > MOST_LEVELS:
        raise Unreadable(f"is nested deeper than {MOST_LEVELS} levels", lines[place])


def _twice(key: Any) -> str:
    return f"key {key!r} stands twice in one object"


def _yaml(text: str) -> tuple[Any, Callable[[], Lines]]:
    import yaml

    if (found := re.search(r"^%TAG", text, re.MULTILINE)) is not None:
        raise Unreadable("%TAG is not read", text.count("\n", 0, found.start()) + 1)
    try:
        return _yaml_value(_yaml_loader()(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise Unreadable(str(error.problem), None if mark is None else mark.line + 1) from error
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {str(error).splitlines()[0]}") from error


@cache
def _yaml_loader() -> Any:
    """YAML 1.1, but 1e-4 is a number as in 1.2, a date is a string, and 1:30 is not 90."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Made of libyaml where PyYAML has it, which takes a tenth of the time."""

    kept = ("bool", "null", "merge")
    Loader.yaml_implicit_resolvers = {
        first: [each for each in resolvers if each[0].rpartition(":")[2] in kept]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name, pattern in _YAML_NUMBERS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, list("-+.0123456789"))
    return Loader


def _yaml_value(loader: Any) -> tuple[Any, Callable[[], Lines]]:
    """The only document's value. Keys are text, whatever they look like; what is merged has no lines of its own.

    Made of events, each looked at before the next is read: libyaml's nodes are composed by recursion without a bound.
    """
    import yaml

    anchors: dict[str, Any] = {}
    lines: Lines = {}
    merged_keys = 0

    def value_at(place: Place) -> Any:
        event = loader.get_event()
        line = event.start_mark.line + 1
        lines.setdefault(place, line)
        _bound(place, lines)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise Unreadable(f"*{event.anchor} stands for nothing before it, or for what it is in", line)
            return anchors[event.anchor]
        if isinstance(event, yaml.ScalarEvent):
            value = scalar(event, line)
        else:
            sequence = isinstance(event, yaml.SequenceStartEvent)
            refuse_tag(event, f"tag:yaml.org,2002:{'seq' if sequence else 'map'}", line)
            value = list_at(place) if sequence else mapping_at(place)
        if event.anchor is not None:
            anchors[event.anchor] = value
        return value

    def scalar(event: Any, line: int) -> Any:
        plain = event.implicit[0] or event.tag not in (None, "!", "tag:yaml.org,2002:str")
        tag = loader.resolve(yaml.ScalarNode, event.value, (plain, not plain))
        refuse_tag(event, tag, line)
        return loader.construct_object(yaml.ScalarNode(tag, event.value)) if not tag.endswith(":merge") else event.value

    def refuse_tag(event: Any, tag: str, line: int) -> None:
        if event.tag not in (None, "!", tag):
            raise Unreadable(f"a value with the tag {event.tag} is not read: JSON has no such thing", line)

    def list_at(place: Place) -> list[Any]:
        value: list[Any] = []
        while not loader.check_event(yaml.SequenceEndEvent):
            value.append(value_at((*place, len(value))))
        loader.get_event()
        return value

    def mapping_at(place: Place) -> dict[str, Any]:
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not loader.check_event(yaml.MappingEndEvent):
            event = loader.get_event()
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable("a key must be text, not a list, an object or an alias", line)
            if event.value in value:
                raise Unreadable(_twice(event.value), line)
            lines[(*place, event.value)] = line
            inner = value_at((*place, event.value))
            if event.value == "<<" and event.implicit[0]:
                merged |= merge(inner, line) | merged
            else:
                value[event.value] = inner
        loader.get_event()
        return merged | value

    def merge(inner: Any, line: int) -> dict[str, Any]:
        nonlocal merged_keys
        merged: dict[str, Any] = {}
        for each in inner if isinstance(inner, list) else [inner]:
            if not isinstance(each, dict):
                raise Unreadable("<< merges objects only", line)
            merged_keys += len(each)
            if merged_keys > MOST_VALUES:
                raise Unreadable(f"<< merges more than {MOST_VALUES:,} keys", line)
            merged = each | merged
        return merged

    loader.get_event()
    if loader.check_event(yaml.StreamEndEvent):
        raise Unreadable("is empty")
    loader.get_event()
    value = value_at(())
    loader.get_event()
    if not loader.check_event(yaml.StreamEndEvent):
        raise Unreadable("holds several documents", loader.peek_event().start_mark.line + 1)
    del lines[()]
    return value, lambda: lines


def _toml(text: str) -> tuple[Any, Callable[[], Lines]]:
    if _TOML_DEEP.search(_TOML_STRING.sub("_", text)):
        raise Unreadable(f"is nested deeper than {MOST_LEVELS} levels")
    try:
        return tomllib.loads(text), cache(lambda: _toml_lines(text))
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _toml_lines(text: str) -> Lines:
    """The lines of tables and of their keys: TOML's parser keeps no positions."""
    lines: Lines = {}
    last: dict[Place, int] = {}  # of each array of tables the position of the last
    table: Place = ()
    for number, line in enumerate(text.split("\n"), 1):
        if (found := _TOML_PLACE.match(line)) is None:
            continue
        place: Place = () if found[1] else table
        parts = [part.strip("\"'") for part in re.findall(_TOML_PART, found[2])]
        for left, part in enumerate(parts, 1 - len(parts)):
            place = (*place, part)
            if found[1] == "[[" and left == 0:
                last[place] = last.get(place, -1) + 1
            lines.setdefault(place, number)
            if place in last:
                place = (*place, last[place])
                lines.setdefault(place, number)
        table = place if found[1] else table
    return lines


PARSERS = {".json": _json, ".yaml": _yaml, ".yml": _yaml, ".toml": _toml}

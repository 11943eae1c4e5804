"""Config files as values plus places: .json (comments and trailing commas accepted), .yaml, .toml.

Values come from the format's own parser. Lines are looked up only when a message needs one.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from hfopt.base.errors import ConfigError, Place, Problem, UsageError
from hfopt.base.secrets import without_credentials

_STRING_OR_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_STRING_OR_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\\n])*")|,(?=\s*[}\]])')
_YAML_12_FLOAT = re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9]*)?[eE][-+]?[0-9]+$")
_TWICE = "key {!r} stands twice in one object"


@dataclass(frozen=True)
class Document:
    """A config file that has been read.

    :param file: None for a config that was given as a dictionary
    :param line: the line (from 1) of the deepest part of a path that is in the file; None if there is none
    """

    value: Any
    file: Path | None = None
    line: Callable[[Sequence[str | int]], int | None] = lambda path: None

    @property
    def folder(self) -> Path:
        """Where relative input paths start."""
        return Path.cwd() if self.file is None else self.file.absolute().parent

    def credentials(self) -> Place | None:
        """Where a key or a value holds credentials. A mapping that several places share is looked at once."""
        left: list[tuple[Place, Any]] = [((), self.value)]
        seen = set()
        while left:
            place, value = left.pop()
            inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, each in inside:
                if any(isinstance(text, str) and without_credentials(text) != text for text in (key, each)):
                    return (*place, key)
                if isinstance(each, dict | list) and id(each) not in seen:
                    seen.add(id(each))
                    left.append(((*place, key), each))
        return None

    def render(self, problem: Problem) -> str:
        """A problem as a message: place, fact, hint."""
        line = self.line(problem.path)
        name = "" if self.file is None else self.file.name
        file = name if line is None else f"{name}:{line}"
        text = ": ".join(filter(None, (file, dotted(problem.path), problem.message)))
        return text if problem.hint is None else f"{text}\n  hint: {problem.hint}"

    def error(self, problems: Sequence[Problem]) -> ConfigError:
        """All problems as one error, in the order in which they stand in the file."""
        ordered = sorted(problems, key=lambda problem: self.line(problem.path) or 0)
        return ConfigError(ordered, [self.render(problem) for problem in ordered])


def dotted(path: Sequence[str | int]) -> str:
    """``('passes', 'q', 'nodes', 0)`` as ``passes.q.nodes[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read(source: Path | str | dict[str, Any]) -> Document:
    """Read a config from a file or take it as a dictionary.

    :raises UsageError: the file is missing or its format is unknown
    :raises ConfigError: the file is not of its format
    """
    if isinstance(source, dict):
        return Document(source)
    file = Path(source)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        fact = "no such file" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        raise UsageError(f"{file}: {fact}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 text") from error
    parsers = {".json": _parse_json, ".yaml": _parse_yaml, ".yml": _parse_yaml, ".toml": _parse_toml}
    if file.suffix.lower() not in parsers:
        raise UsageError(f"{file}: a config is a .json, .yaml or .toml file")
    return parsers[file.suffix.lower()](text, file)


def _parse_json(text: str, file: Path) -> Document:
    plain = _STRING_OR_TRAILING_COMMA.sub(lambda match: match[1] or " ", _STRING_OR_COMMENT.sub(_blank, text))
    composed = cache(partial(_compose, plain.replace("\t", " ")))  # JSON without tabs is YAML
    try:
        value = json.loads(plain, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if not plain.strip():
            raise _syntax_error(file, "is empty") from error
        raise _syntax_error(file, f"{error.msg} (column {error.colno})", error.lineno) from error
    except (RecursionError, ValueError) as error:
        lines = [line for line, message in _repeated_keys(composed()) if message == str(error)]
        raise _syntax_error(file, str(error) or "nested too deeply", min(lines, default=None)) from error
    return Document(value, file, lambda path: _node_line(composed(), path))


def _blank(match: re.Match[str]) -> str:
    return match[1] or re.sub(r"[^\n]", " ", match[0])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(_TWICE.format(key))
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse_yaml(text: str, file: Path) -> Document:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1, but 1e-4 is a number as in 1.2."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_12_FLOAT, list("-+0123456789"))
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        if repeated := min(_repeated_keys(root), default=None):
            raise _syntax_error(file, repeated[1], repeated[0])
        value = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _syntax_error(file, str(error.problem), None if mark is None else mark.line + 1) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _syntax_error(file, "not YAML") from error
    return Document(value, file, partial(_node_line, root))


def _parse_toml(text: str, file: Path) -> Document:
    try:
        return Document(tomllib.loads(text), file, partial(_toml_line, text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _syntax_error(file, str(error) or "nested too deeply") from error


def _syntax_error(file: Path, message: str, line: int | None = None) -> ConfigError:
    return Document(None, file, lambda path: line).error([Problem((), message)])


def _compose(text: str) -> Any:
    """The root node of a YAML document, None if it is empty or not YAML."""
    import yaml

    try:
        return yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _children(node: Any) -> list[tuple[Any, Any, Any]]:
    """Of each part of a YAML node: its key or position, the node that has its line, and its value."""
    if node is not None and node.id == "mapping":
        return [(key.value if key.id == "scalar" else key, key, value) for key, value in node.value]
    if node is not None and node.id == "sequence":
        return [(str(number), value, value) for number, value in enumerate(node.value)]
    return []


def _node_line(node: Any, path: Sequence[str | int]) -> int | None:
    line = None
    for part in path:
        found = [(at, value) for name, at, value in _children(node) if name == str(part)]
        if not found:
            break
        at, node = found[-1]  # what a mapping merges (<<) comes first
        line = at.start_mark.line + 1
    return line


def _repeated_keys(root: Any) -> Iterator[tuple[int, str]]:
    """The line of each key that its object has already, with a message."""
    left, seen = [root], set()
    while left:
        node = left.pop()
        names = set()
        for name, at, value in () if node in seen else _children(node):  # seen before: an alias
            if name in names:
                yield at.start_mark.line + 1, _TWICE.format(name)
            names.add(name)
            left.append(value)
        seen.add(node)


def _toml_line(text: str, path: Sequence[str | int]) -> int | None:
    """Where the keys of `path` first follow one another: TOML's parser keeps no positions."""
    position = 0
    for part in (part for part in path if isinstance(part, str)):
        found = re.compile(rf"""(?m)(?:^|[\s.\["'{{,]){re.escape(part)}["']?\s*[\].=]""").search(text, position)
        if found is None:
            break
        position = found.end() - 1
    return text.count("\n", 0, position) + 1 if position else None

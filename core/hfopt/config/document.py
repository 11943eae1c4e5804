"""Config files as values plus places: .json (comments and trailing commas accepted), .yaml, .toml.

Whatever a config comes from, `read` returns what JSON has, of a size that no later step takes long for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hfopt.base.errors import ConfigError, Place, PreconditionFailed, Problem, UsageError
from hfopt.base.files import path_of
from hfopt.base.inside import regular_file
from hfopt.base.text import shown
from hfopt.base.values import TooMuch, dotted, plain
from hfopt.config.formats import PARSERS, Unreadable, parse

MOST_BYTES = 500_000
TOLD = 50
"""Mistakes that are printed."""
ENOUGH = 300
"""Mistakes after which no more are looked for."""


@dataclass(frozen=True)
class Document:
    """A config file that has been read.

    :param lines: finds the lines (from 1) of the places in the file, once
    :param file: None for a config that was given as a dictionary
    """

    value: Any
    lines: Callable[[], Mapping[Place, int]] = dict
    file: Path | None = None

    @property
    def folder(self) -> Path:
        """Where relative input paths start."""
        return Path.cwd() if self.file is None else self.file.absolute().parent

    def line(self, path: Place) -> int | None:
        """The line of the deepest part of a path that is in the file; None if there is none."""
        lines = self.lines()
        found = (path[:end] for end in range(len(path), -1, -1) if path[:end] in lines)
        return lines.get(next(found, ()))

    def render(self, problem: Problem) -> str:
        """A problem as a message: place, fact, hint."""
        line = self.line(problem.path)
        name = "" if self.file is None else self.file.name
        file = name if line is None else f"{name}:{line}"
        text = ": ".join(filter(None, (file, dotted(problem.path), problem.message)))
        return shown(text if problem.hint is None else f"{text}\n  hint: {problem.hint}")

    def error(self, problems: Sequence[Problem]) -> ConfigError:
        """All problems as one error, in the order in which they stand in the file; the first of them are told."""
        ordered = sorted(problems, key=lambda problem: self.line(problem.path) or 0)
        told = [self.render(problem) for problem in ordered[:TOLD]]
        if len(ordered) > TOLD:
            told.append(f"and {'at least ' if len(ordered) >= ENOUGH else ''}{len(ordered) - TOLD} more")
        return ConfigError(ordered, told)


def read(source: Path | str | dict[str, Any]) -> Document:
    """Read a config from a file or take it as a dictionary.

    :raises UsageError: the file is missing, is no regular file, or its format is unknown
    :raises ConfigError: the file is not of its format, or holds what JSON does not have
    """
    document = Document(source) if isinstance(source, dict) else _parsed(path_of(source))
    faults: dict[Place, str] = {}
    try:
        value = plain(document.value, faults)
    except TooMuch as error:
        raise document.error([Problem((), str(error))]) from error
    if faults:
        raise document.error([Problem(place, fault) for place, fault in faults.items()])
    return replace(document, value=value)


def _parsed(file: Path) -> Document:
    suffix = file.suffix.lower()
    if suffix not in PARSERS:
        raise UsageError(f"{file}: a config is a .json, .yaml or .toml file")
    try:
        if regular_file(file).st_size > MOST_BYTES:
            raise UsageError(f"{file}: is larger than {MOST_BYTES // 1_000} kB: no config needs that")
        with open(file, "rb") as stream:
            text = stream.read(MOST_BYTES).decode("utf-8-sig")
        return Document(*parse(text, suffix), file)
    except PreconditionFailed as error:
        raise UsageError(error.message) from error
    except OSError as error:
        fact = "no such file" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        raise UsageError(f"{file}: {fact}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 text") from error
    except Unreadable as error:
        lines: dict[Place, int] = {} if error.line is None else {(): error.line}
        raise Document(None, lambda: lines, file).error([Problem((), str(error))]) from error

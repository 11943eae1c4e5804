"""Expected failures, each with its exit code (docs/reference/cli.md lists them).

A bug is any other exception and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hfopt.base.secrets import redacted

Place = tuple[str | int, ...]
"""Keys and list positions that lead to a value of a config."""


class ExitCode(IntEnum):
    """What `hfopt` returns to the shell."""

    DONE = 0
    NO_RESULT = 1
    USAGE = 2
    MISSING = 3
    INTERRUPTED = 130


class HfoptError(Exception):
    """A failure that was foreseen.

    :param message: what is wrong, in one sentence
    :param hint: what to do next
    """

    exit_code = ExitCode.NO_RESULT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(redacted(message))
        self.message = redacted(message)
        self.hint = None if hint is None else redacted(hint)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


class UsageError(HfoptError):
    """The command line or a file that it names can't be used."""

    exit_code = ExitCode.USAGE


class PluginError(HfoptError):
    """A needed plugin, or something that it needs, is missing or broken."""

    exit_code = ExitCode.MISSING


class PreconditionFailed(HfoptError):
    """A pass, loader or metric can't work on what it was given."""


class StepFailed(HfoptError):
    """A step ended without a result."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a config.

    :param path: keys and list positions from the top of the config to the place
    :param message: the fact
    :param hint: near miss or next step
    :param exit_code: USAGE for a mistake of the user's, MISSING for a plugin that is not installed
    """

    path: Place
    message: str
    hint: str | None = None
    exit_code: ExitCode = ExitCode.USAGE


class ConfigError(HfoptError):
    """Every mistake found in a config, each with its place in the user's file.

    :param problems: in the order in which they stand in the file
    :param lines: the same, rendered
    """

    def __init__(self, problems: Sequence[Problem], lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)
        self.exit_code = min(problem.exit_code for problem in problems)  # a mistake before a missing plugin

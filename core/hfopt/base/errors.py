"""Expected failures, each with its exit code (docs/reference/cli.md lists them).

A bug is any other exception and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
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


# -- what the operating system refuses ---------------------------------------------------------------------------------

_NO_MEMORY = re.compile(
    r"bad_?alloc|(can't|cannot|could not|unable to|failed to) allocate|alloc\w* failed|failed to map segment"
    r"|out of memory|not enough memory|can't start new thread|failed to create thread",
    re.IGNORECASE,
)
"""How libraries say that there is no memory, for a thread's stack for example."""
_REFUSED = {
    errno.ENOSPC: "make room there, or name a folder on another disk",
    errno.EFBIG: "allow larger files there (ulimit -f), or name a folder on another disk",
    errno.EDQUOT: "make room there, or name a folder on another disk",
    errno.EROFS: "name another folder",
    errno.EACCES: "see that you may read it, or write it, or name another",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.EAGAIN: "allow more processes: ulimit -u",
}


def foreseen(error: BaseException, place: object = None) -> HfoptError | None:
    """An error as a failure that was foreseen: its own, or what the operating system has refused.

    What a library that can't be loaded for want of memory has become on its way (`X is not installed`) is that want.

    :param place: where it is, if the error does not say: one of writing to an open file does not
    :return: None if it is a bug
    """
    kinds = (ImportError, RuntimeError, OSError, MemoryError)  # the text of a failed validation can be of megabytes
    for each in [each for each in _with_causes(error) if isinstance(each, kinds)][::-1]:
        text = " ".join(str(each).split())
        no_memory = isinstance(each, MemoryError) or getattr(each, "errno", None) == errno.ENOMEM
        if no_memory or _NO_MEMORY.search(text):
            hint = "use a smaller model or batch, or allow more memory and threads (ulimit -v, ulimit -u)"
            return HfoptError(": ".join(filter(None, ["not enough memory", text])), hint=hint)
    if isinstance(error, HfoptError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        what = error.strerror or os.strerror(error.errno)
        if error.filename is None and error.errno == errno.ENOENT and _current_folder_is_gone():
            what = "the current folder is gone: change to another"
        named = error.filename2 or error.filename or place  # the second is the target of a rename
        told = None if named is None else named.decode(errors="replace") if isinstance(named, bytes) else str(named)
        return HfoptError(": ".join(filter(None, [told, what])), hint=_REFUSED.get(error.errno))
    if isinstance(error, UnicodeError):
        return HfoptError(f"a name or text is not UTF-8: {error}")
    return None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _current_folder_is_gone() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False

"""What is tried, on what, and what it means to hold."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EXIT_CODES = (0, 1, 2, 3, 130)
"""Those of the contract."""


@dataclass(frozen=True)
class Attempt:
    """One thing that is tried.

    :param name: what is printed when it does not hold; with the seed it is enough to try it again
    :param try_: does it in an empty folder of its own; returns what went wrong, None if everything held
    """

    name: str
    try_: Callable[[Path], str | None]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    :param seconds: wall time
    :param mebibytes: the largest resident memory of the command or of any process that it waited for
    """

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    mebibytes: float


def hfopt(
    folder: Path,
    *arguments: str | bytes,
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
    prepare: Callable[[], None] | None = None,
    below: Sequence[str] = (),
) -> Ended:
    """Run a command of hfopt in a folder.

    :param environment: beside this process's
    :param seconds: after which it and all that it has started are killed, and its code is None
    :param prepare: done in the child before it begins, such as setting limits
    :param below: a command that starts it
    """
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    process = subprocess.Popen(
        [*below, sys.executable, "-m", "hfopt", *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=prepare,
    )
    code: int | None
    try:
        stdout, stderr = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        code = None
    largest = max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    told = [each.decode("utf-8", "replace") for each in (stdout, stderr)]
    return Ended(code, *told, time.monotonic() - began, largest / 1024)


def broken(ended: Ended, *, codes: Sequence[int] = EXIT_CODES) -> str | None:
    """What is wrong with how a command ended, whatever it was given: None if nothing is.

    It ends, with a code that the contract names, without a traceback, and a failure says something.

    :param codes: which of them are right here
    """
    if ended.code is None:
        return f"did not end within {ended.seconds:.0f} s"
    if ended.code not in codes:
        return f"ended with {ended.code}, not with one of {', '.join(map(str, codes))}: {last_line(ended)}"
    if "Traceback (most recent call last)" in ended.stdout + ended.stderr:
        return f"a traceback: {last_line(ended)}"
    if ended.code and not (ended.stdout + ended.stderr).strip():
        return f"ended with {ended.code} and said nothing"
    if "\x1b" in (ended.stdout + ended.stderr).replace("\x1b[?25h", ""):
        return "raw control characters on the terminal"
    return None


def last_line(ended: Ended) -> str:
    lines = (ended.stderr or ended.stdout).strip().splitlines()
    return lines[-1][:300] if lines else "(nothing)"

"""What is tried, on what, and what it means to hold."""

from __future__ import annotations

import math
import os
import re
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
    :param mebibytes: the largest resident memory of the command, looked at fifty times a second
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
    began, peak = time.monotonic(), 0
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
    while True:
        try:
            told = process.communicate(timeout=0.02)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, resident(process.pid, "VmHWM"))
            if time.monotonic() - began > seconds:
                os.killpg(process.pid, signal.SIGKILL)
                seconds = math.inf
    stdout, stderr = (each.decode("utf-8", "replace") for each in told)
    code = None if seconds == math.inf else process.returncode
    return Ended(code, stdout, stderr, time.monotonic() - began, peak / 2**20)


def resident(pid: int, field: str = "VmRSS") -> int:
    """Bytes of a process's resident memory, or of the most that it had (VmHWM); 0 if it has ended."""
    try:
        found = re.search(rf"^{field}:\s*(\d+) kB", Path("/proc", str(pid), "status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def raised(act: Callable[[], object]) -> BaseException | None:
    """What something raises, in a fork that must come to its end whatever that is."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - it is what an attack looks for
        return error
    return None


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

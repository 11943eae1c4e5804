"""Ending a process in time, saying how one ended, and what a child process gets."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryFile
from types import FrameType

from hfopt.base.errors import ExitCode
from hfopt.base.secrets import SECRETS, TOKEN_PATH, WITHHELD, handed_over, withheld

_LIKELY: dict[int, str] = {
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "an abort in native code",
    signal.SIGBUS: "a crash in native code, or a file that shrank while in use",
    signal.SIGKILL: "killed from outside, or out of memory",
    signal.SIGILL: "an instruction that this CPU does not have",
}
_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 1.7
"""How long a process may take to end after a signal, whatever it is doing."""


def describe_exit(code: int) -> str:
    """``was killed by SIGSEGV (a crash in native code)``, or ``ended with exit code 3``.

    :param code: as subprocess has it: negative for a signal
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
    return f"was killed by {name}" + (f" ({_LIKELY[-code]})" if -code in _LIKELY else "")


@contextmanager
def interruptible() -> Iterator[None]:
    """For the main program: Ctrl-C, SIGTERM or SIGHUP is one KeyboardInterrupt and ends the process within two seconds.

    Further signals change nothing, so that an impatient second Ctrl-C damages no record. If the KeyboardInterrupt can't
    be delivered (native code holds the main thread, a file system hangs), a thread ends the process. A signal that is
    ignored on entry (``nohup``, a background job) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise KeyboardInterrupt

    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    threading.Thread(target=_end_in_time, args=(wake,), name="end in time", daemon=True).start()
    wanted = [number for number in _REQUESTS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def restore() -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)

    os.register_at_fork(after_in_child=restore)
    try:
        yield
    finally:
        if asked:  # this process is about to end and must not be interrupted again
            for number in wanted:
                signal.signal(number, signal.SIG_IGN)
            exec("")  # noqa: S102 - an interrupt within exec or eval would have Python kill itself at its end: forget it
        else:
            restore()
            os.close(woken)


def end_undisturbed() -> None:
    """Ignore requests to end from now on: all is said, and Python's own end is not to be a death by a signal."""
    for number in _REQUESTS:
        signal.signal(number, signal.SIG_IGN)


def _end_in_time(wake: int) -> None:
    """Wait for a signal's number, which the interpreter writes immediately, then give the main thread time to end."""
    with os.fdopen(wake, "rb", buffering=0) as numbers:
        while number := numbers.read(1):
            if number[0] in _REQUESTS:
                threading.Event().wait(GRACE_SECONDS)
                _end_now()


def _end_now() -> None:
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing is not None else ():
        child.kill()
    with suppress(OSError):
        show_cursor = b"\x1b[?25h" if os.isatty(2) else b""
        os.write(2, show_cursor + b"\nhfopt: interrupted\n")
    os._exit(ExitCode.INTERRUPTED)


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, where the kernel can."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_group() -> None:
    """End this process and all that it has started, if it leads a process group; else do nothing."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


# -- what a child process gets -----------------------------------------------------------------------------------------

_DESCRIPTORS = "/dev/fd/"
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONFAULTHANDLER": "1",
}
"""Environment of every worker: no telemetry, no progress bars, and a traceback in the log after a crash.

ONNX Runtime asks for its variable when it is imported; its function that does the same comes too late.
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def disable_telemetry() -> None:
    """In this process and in what it starts, of libraries that are not imported yet."""
    os.environ.update({name: value for name, value in QUIET.items() if "TELEMETRY" in name or "TRACK" in name})


@contextmanager
def secrets_passed() -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """What children don't get, in files without a name, so that nothing remains of it however this process ends.

    The hub's token is in a file of its own: its client reads it.

    :return: a child's variables that name them, and the descriptors that the child must inherit; no file of a token if
        no variable holds one: then the hub's client uses that of a login
    """
    token = next(filter(None, map(os.environ.get, SECRETS)), "")
    variables = {name: os.environ[name] for name in withheld(os.environ).keys() - {*SECRETS}}
    with ExitStack() as stack:
        files = {}
        for name, content in ((TOKEN_PATH, token), (WITHHELD, json.dumps(variables) if variables else "")):
            if content:
                files[name] = stack.enter_context(TemporaryFile(buffering=0))
                files[name].write(content.encode("utf-8", "surrogateescape"))
        descriptors = {name: file.fileno() for name, file in files.items()}
        yield {name: f"{_DESCRIPTORS}{number}" for name, number in descriptors.items()}, (*descriptors.values(),)


def keep_secrets() -> None:
    """In a worker: whatever it starts, and however, inherits no descriptor of `secrets_passed`."""
    for name in (TOKEN_PATH, WITHHELD):
        if (path := os.environ.get(name, "")).startswith(_DESCRIPTORS):
            os.set_inheritable(int(path.removeprefix(_DESCRIPTORS)), False)


@contextmanager
def credentials() -> Iterator[None]:
    """While other machines are asked: this process has the variables that its host has withheld."""
    given, before = handed_over(), dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in given.keys() & before.keys()})


def environment(*, offline: bool) -> dict[str, str]:
    """What a child process gets: this one's environment without credentials, and quiet."""
    changed = withheld(os.environ)
    for name in (TOKEN_PATH, WITHHELD):
        if os.environ.get(name, "").startswith(_DESCRIPTORS):
            changed[name] = None  # this is a worker, whose children do not have that descriptor
    kept = {name: each for name, value in os.environ.items() if (each := changed.get(name, value)) is not None}
    return {**kept, **QUIET, **(OFFLINE if offline else {})}

"""How a process is asked to end, and how it ended, in words."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from hfopt.errors import ExitCode

_LIKELY = {
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "an abort in native code",
    signal.SIGBUS: "a crash in native code, or a file that shrank while in use",
    signal.SIGKILL: "killed from outside, or out of memory",
    signal.SIGILL: "an instruction that this CPU has not",
}
_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 1.7
"""What a process that was asked to end takes at most, wherever it is."""


def describe_exit(code: int | None) -> str:
    """``was killed by SIGSEGV (a crash in native code)``, or ``ended with exit code 3``.

    :param code: as subprocess has it: negative for a signal
    """
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"was killed by signal {-code}"
    likely = f" ({_LIKELY[number]})" if number in _LIKELY else ""
    return f"was killed by {number.name}{likely}"


@contextmanager
def interruptible() -> Iterator[None]:
    """For the main program: Ctrl-C, SIGTERM or SIGHUP is one KeyboardInterrupt, and the end within two seconds.

    Further ones change nothing, so that an impatient second Ctrl-C spoils no record. Where the KeyboardInterrupt can't
    get through (native code that holds the main thread, a file system that hangs) a thread ends the process. A signal
    that is ignored on entry (``nohup``, a background job) stays so.
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
        if asked:  # this process is about to end, and nothing more may disturb it
            for number in wanted:
                signal.signal(number, signal.SIG_IGN)
        else:
            restore()
            os.close(woken)


def _end_in_time(wake: int) -> None:
    """Wait for a signal's number, which the interpreter writes at once, then for the main thread to end the process."""
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


def end_group() -> None:
    """End this process and whatever it has started, if it leads a process group of its own; else do nothing."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)

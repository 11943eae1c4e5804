"""How a process ended, in words."""

from __future__ import annotations

import signal

_LIKELY = {
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "an abort in native code",
    signal.SIGBUS: "a crash in native code, or a file that shrank while in use",
    signal.SIGKILL: "killed from outside, or out of memory",
    signal.SIGILL: "an instruction that this CPU has not",
}


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

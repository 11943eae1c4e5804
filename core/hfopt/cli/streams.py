"""Standard output and error of a command: what can't be written is dropped, and the exit code says so in the end."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import Any

_NAMES = {1: "standard output", 2: "standard error"}
_WORDS = {errno.EBADF: "it is closed", errno.EPIPE: ""}
"""Of a reader that has read enough (`| head`) nothing is said."""


class _Kept(RawIOBase):
    """A descriptor to write to. Its first failure is remembered and raises nothing: what is under way goes on.

    :param lost: why what was written is lost, by descriptor
    """

    def __init__(self, number: int, lost: dict[int, str]) -> None:
        self.number, self.lost = number, lost

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, data: Any) -> int:
        try:
            return os.write(self.number, data)
        except OSError as error:
            why = _WORDS.get(error.errno or 0, str(error.strerror))
            self.lost.setdefault(self.number, why)
            return len(data)


@contextmanager
def kept() -> Iterator[dict[int, str]]:
    """Have no failure of standard output or error end what is under way, and no character that their encoding lacks.

    :return: why what was written is lost, by descriptor: complete at the end; empty where it need not be said
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it is closed: no file that is opened later may get its number
            os.dup2(nowhere := os.open(os.devnull, os.O_RDONLY), number)
            if nowhere != number:
                os.close(nowhere)
    lost: dict[int, str] = {}
    before = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, lost)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, lost)
    try:
        yield lost
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, other in ((1, sys.stderr), (2, sys.stdout)):
            if lost.get(number):
                print(f"hfopt: {_NAMES[number]} can't be written: {lost[number]}", file=other, flush=True)
        sys.stdout, sys.stderr = before


def _stream(number: int, lost: dict[int, str]) -> TextIOWrapper:
    encoding = getattr((sys.__stdout__, sys.__stderr__)[number - 1], "encoding", "utf-8")
    buffer = BufferedWriter(_Kept(number, lost))
    return TextIOWrapper(buffer, encoding, errors="backslashreplace", line_buffering=True)

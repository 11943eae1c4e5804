"""What goes wrong on demand: errors instead of answers, and connections that are cut."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Literal


@dataclass
class Fault:
    """What befalls some requests.

    :ivar method: a pattern as of a shell, as are ``host`` and ``path``; the path is compared in lower case
    :ivar every: it befalls each n-th of the requests that match
    :ivar times: how often at most; None for ever
    :ivar status: answer this instead of doing what was asked; None to cut the connection
    :ivar cut: ``request``: before anything is done, as it is read. ``answer``: it is done, but the answer breaks off
    :ivar after: how many bytes of the request's or the answer's body go through before the cut
    """

    method: str = "*"
    host: str = "*"
    path: str = "*"
    every: int = 1
    times: int | None = None
    status: int | None = None
    code: str = ""
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: Literal["request", "answer"] = "request"
    after: int = 0
    matched: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def strikes(self, method: str, host: str, path: str) -> bool:
        """Whether it befalls this request. Counts."""
        values = ((method, self.method), (host, self.host), (path.lower(), self.path.lower()))
        if self.struck == self.times or not all(fnmatch(value, pattern) for value, pattern in values):
            return False
        self.matched += 1
        if self.matched % self.every:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults that hold now; the first that strikes a request counts."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Let a fault hold from now on; its ``struck`` says how often it did."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        with self._lock:
            self._faults.clear()

    def strike(self, method: str, host: str, path: str) -> Fault | None:
        """What befalls a request, if anything does."""
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(method, host, path)), None)

"""Requests, answers, and who answers what: a table of routes, each a host, a method and a path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A request as a handler sees it.

    :ivar match: what the route's ``{names}`` stand for in the path, as it was spelled
    :ivar identity: whose token it carries, where the route asks for one
    """

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    match: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""

    @property
    def json(self) -> JSON:
        """The body; an empty one is an empty object."""
        return json.loads(self.body) if self.body else {}


@dataclass(frozen=True)
class Answer:
    """What goes back: a body for JSON, or None for an empty one."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that is an error, in the form that Azure's services share."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = Answer({"error": {"code": code, "message": message}}, status, headers or {})


@dataclass(frozen=True)
class Route:
    """One kind of request.

    :ivar host: a pattern as of a shell: ``*.vault.azure.net``
    :ivar path: with ``{names}`` for single segments; letters' case does not matter, as to Azure
    :ivar audience: the resource that a bearer token must be for; None if anyone may ask
    """

    method: str
    host: str
    path: str
    handler: Callable[[Call], Answer]
    audience: str | None = None

    def match(self, method: str, host: str, path: str) -> Mapping[str, str] | None:
        """What its names stand for in this request, or None if it is another route's."""
        if method != self.method or not fnmatch(host, self.host):
            return None
        found = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.path), path, re.IGNORECASE)
        return None if found is None else found.groupdict()


def find(routes: Iterable[Route], method: str, host: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
    """The first route for a request, with what its names stand for."""
    for route in routes:
        if (match := route.match(method, host, path)) is not None:
            return route, match
    return None

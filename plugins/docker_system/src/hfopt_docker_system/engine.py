"""The engine: where it listens, and in one sentence what keeps it from answering."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt import HfoptError, PluginError

if TYPE_CHECKING:
    from docker import DockerClient

ANSWER_SECONDS = 10
"""How long an engine may take to say what it is."""


def sockets() -> list[str]:
    """Where engines listen, the likeliest first: what DOCKER_HOST says, or those of Docker, then of Podman."""
    if written := os.environ.get("DOCKER_HOST"):
        return [written]
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    places = [
        Path("/var/run/docker.sock"),
        own / "docker.sock",
        own / "podman/podman.sock",
        Path("/run/podman/podman.sock"),
    ]
    found = [f"unix://{place}" for place in places if _exists(place)]
    return found or [f"unix://{places[0]}"]


def connect() -> DockerClient:
    """A client of the engine.

    :raises PluginError: there is none, or it does not answer
    """
    import docker

    address = sockets()[0]
    with explained("the Docker engine could not be asked"):
        client = docker.from_env(environment={**os.environ, "DOCKER_HOST": address}, timeout=ANSWER_SECONDS)
    client.api.timeout = 60
    return client


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Make what docker-py and the libraries below it raise a failure that was foreseen.

    :param doing: what has failed then
    """
    import docker.errors
    import requests
    import urllib3

    try:
        yield
    except docker.errors.APIError as error:
        raise HfoptError(f"{doing}: {_said(error)}") from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        problem, hint = _cause(error)
        raise PluginError(f"{doing}: {problem.format(sockets()[0])}", hint=hint) from error


_START = "start it: systemctl start docker, or systemctl --user start podman.socket; or name another in DOCKER_HOST"
_TIMEOUT = ("no answer in time from {}", "see its log, or restart it")
_CAUSES = {
    FileNotFoundError: ("none listens at {}", f"install Docker or Podman, then {_START}"),
    ConnectionRefusedError: ("it does not run, but has left {}", _START),
    PermissionError: (
        "this user may not use {}",
        "join the group docker, or use an engine without root: https://docs.docker.com/engine/security/rootless",
    ),
    TimeoutError: _TIMEOUT,
}


def _cause(error: BaseException) -> tuple[str, str | None]:
    """What is at the bottom of a chain of errors, and what to do about it."""
    chain = list(_chain(error))
    for kind, told in _CAUSES.items():
        if any(isinstance(each, kind) for each in chain):
            return told
    if any("timed out" in str(each) for each in chain):
        return _TIMEOUT
    if any(isinstance(each, ConnectionError) or "ended prematurely" in str(each) for each in chain):
        return "{} has ended the connection", "see the engine's log"
    return " ".join(str(error).split()).replace("{", "{{").replace(
        "}", "}}"
    ), "see DOCKER_HOST, and whether `docker info` answers"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        for each in error.args:  # urllib3 and requests keep what they were raised for as an argument
            if isinstance(each, BaseException):
                yield from _chain(each)
        error = error.__cause__ or error.__context__


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # in a folder that this user can't enter
        return False

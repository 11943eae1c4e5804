"""Removes a container when the process that owns it is gone: `python -m hfopt_docker_system.guard SOCKET CONTAINER`.

A worker leaves when its standard input ends, but not while native code holds the interpreter's lock. This process does
nothing until its own standard input ends, which the kernel sees to however its parent ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress


def watch(address: str, container: str) -> subprocess.Popen[bytes]:
    """Begin to guard a container; to stop, write a byte to the process's standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", "hfopt_docker_system.guard", address, container],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what ends the owner's group does not end the guard
    )


def main(address: str, container: str) -> None:
    if os.read(0, 1):
        return
    import docker
    import docker.errors

    with suppress(docker.errors.APIError):  # it is gone already
        docker.from_env(environment={**os.environ, "DOCKER_HOST": address}).api.remove_container(container, force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

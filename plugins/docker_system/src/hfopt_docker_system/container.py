"""One container with a worker in it: how it is made, what it says, how it ended."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hfopt import HfoptError
from hfopt.api.protocol import Fault
from hfopt.api.systems import SystemContext
from hfopt.api.workers import Worker, describe_exit, keep, lost
from hfopt_docker_system.config import DockerConfig
from hfopt_docker_system.engine import explained, sockets
from hfopt_docker_system.guard import watch

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OWNER = "hfopt.owner"
"""The label that says which process a container belongs to."""
_NEEDED = "the image must have Python 3.11 or newer, and what hfopt and its plugins depend on"
_ROOTLESS, _SELINUX = "name=rootless", "name=selinux"


def owner() -> str:
    """This process, told from every other one, earlier ones of its number included."""
    import psutil

    return f"{_machine()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_orphan(label: str) -> bool:
    """Whether the owner that a label names was a process of this machine and is gone."""
    import psutil

    machine, pid, started = label.rsplit(" ", 2)
    if machine != _machine():
        return False
    with suppress(psutil.NoSuchProcess):
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > 2
    return True


def _machine() -> str:
    """Where numbers of processes mean the same."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # macOS
        return socket.gethostname()


def sweep(client: DockerClient) -> None:
    """Remove the containers of hosts that were killed. They have ended: what is in them ends with its host."""
    with explained("the engine's containers could not be listed"):
        left = client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)
    for container in left:
        if is_orphan(container.labels[OWNER]):
            remove(container)


def remove(container: Container) -> None:
    """Remove a container, whether it runs or not; if that fails, a later run's `sweep` removes it."""
    with suppress(HfoptError), explained("a container could not be removed"):
        container.remove(force=True)


def options(
    config: DockerConfig,
    security: Sequence[str],
    mounted: Mapping[Path, tuple[Path, bool]],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """What a container is made with, apart from image and command: keyword arguments of docker-py.

    :param security: the engine's options. In an engine without root, the container's root is the caller
    :param mounted: see `mounts.mounts`
    """
    from docker.types import DeviceRequest, LogConfig, Mount

    params = config.local_docker_config.run_params
    bound = {**{str(path): (str(source), rw) for path, (source, rw) in mounted.items()}, **params.bindings}
    return {
        **params.limits(),
        "user": None if _ROOTLESS in security else f"{os.getuid()}:{os.getgid()}",
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", *(["label=disable"] if _SELINUX in security else [])],
        "init": True,  # else nothing ends at a signal, and children that are orphans stay
        "stdin_open": True,
        "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108 - the container's own
        "mounts": [Mount(path, source, "bind", read_only=not rw) for path, (source, rw) in bound.items()],
        "environment": {**environment, **params.environment},
        "device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])] if config.wants_gpu else [],
        "labels": {OWNER: owner()},
        "log_config": LogConfig(type="none"),
    }


class ContainerWorker(Worker):
    """A worker in a container, which is attached before it starts, so that nothing is lost.

    :param container: that does not run yet
    :param inputs: the user's files and folders that it can see
    """

    def __init__(self, client: DockerClient, container: Container, inputs: Set[str], context: SystemContext) -> None:
        self.inputs = inputs
        self._client, self._container, self._context = client, container, context
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._answered, self._last_words = False, ""
        streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        with explained("the container could not be started"):
            self._held = container.attach_socket(params=streams)
            self._socket = cast("socket.socket", getattr(self._held, "_sock", self._held))
            self._socket.settimeout(None)
            container.start()
        self._guard = watch(sockets()[0], str(container.id))
        self._reader = threading.Thread(target=self._read, name="container", daemon=True)
        self._reader.start()

    def ask(self, request: str) -> Iterator[str]:
        self._socket.sendall(f"{request}\n".encode())
        return self._said()

    def _said(self) -> Iterator[str]:
        while (line := self._answers.get()) is not None:
            self._answered = True
            yield line
        self._answers.put(None)  # for whoever asks again

    def alive(self) -> bool:
        return self._reader.is_alive()

    def kill(self) -> None:
        with suppress(HfoptError), explained("the container could not be killed"):
            self._container.kill()

    def end(self) -> Fault:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._reader.join(timeout=3)
        if self._reader.is_alive():
            self.kill()
        state = self._ended()
        remove(self._container)
        self._guard.communicate(b"done")
        self._held.close()
        if state.get("OOMKilled"):
            return OUT_OF_MEMORY
        code = state.get("ExitCode")
        how = "is gone, and the engine too" if code is None else describe(code)
        if self._answered or code is None:
            return lost(how, self._context)
        return Fault(type="WorkerNotStarted", message=f"the worker {how}: {self._last_words}", hint=_NEEDED)

    def out_of_memory(self, since: float) -> bool:
        """Whether something in it took more memory than there was, and the worker has survived that.

        :param since: when, as time.time() has it
        """
        wanted = {"container": self._container.id, "event": "oom"}
        with suppress(HfoptError), explained("the engine could not be asked for events"):
            until = int(time.time()) + 1  # a moment later, as events may be
            events = self._client.events(since=int(since), until=until, filters=wanted, decode=True)
            return any(event["timeNano"] >= since * 1e9 for event in events)
        return False

    def _ended(self) -> dict[str, Any]:
        """The state in which the container has ended, as the engine tells it; empty if it does not."""
        with suppress(HfoptError), explained("the container could not be asked how it ended"):
            self._container.wait(timeout=5)
            self._container.reload()
            return dict(self._container.attrs["State"])
        return {}

    def _read(self) -> None:
        """Hand on whole lines: answers, and what goes to the log."""
        from docker.utils.socket import STDOUT, frames_iter

        begun = b""
        read, write = os.pipe()
        lines = os.fdopen(read, encoding="utf-8", errors="backslashreplace")
        log = threading.Thread(target=keep, args=(lines, self._context.log), name="log", daemon=True)
        log.start()
        with suppress(OSError), os.fdopen(write, "wb", buffering=0) as printed:
            for stream, piece in frames_iter(self._socket, tty=False):  # type: ignore[no-untyped-call]
                if stream != STDOUT:
                    printed.write(piece)
                    self._last_words = piece.decode("utf-8", "replace").strip().rpartition("\n")[2] or self._last_words
                    continue
                *whole, begun = (begun + piece).split(b"\n")
                for line in whole:
                    self._answers.put(line.decode())
        log.join(timeout=1)
        self._answers.put(None)


OUT_OF_MEMORY = Fault(
    type="OutOfMemory",
    message="the container ran out of memory, and the engine's host ended what took it",
    hint="raise run_params.mem_limit, or use a smaller model or batch",
)


def describe(code: int) -> str:
    """How a container ended: above 128 a signal has ended it, as shells have it."""
    return describe_exit(128 - code if code > 128 else code)

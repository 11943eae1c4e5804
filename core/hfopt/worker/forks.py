"""Fresh processes that time models: forked from one that has imported what their runtime needs."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

from hfopt.base.errors import HfoptError
from hfopt.base.processes import end_with_parent, environment
from hfopt.discovery.checks import attempt
from hfopt.discovery.plugins import Plugins

EXIT_SECONDS = 5.0
"""What a process may take to end by itself."""


@dataclass(frozen=True)
class Forks:
    """A process that has imported what a type of models needs, and does nothing but fork fresh processes.

    It runs no model, so that what it forks begins as a new process would, only sooner.
    """

    pid: int
    pipe: Connection

    def start(self, *descriptors: int) -> int:
        """Fork a process that serves one pipe.

        :param descriptors: its end of the pipe, and the file for what it prints
        :return: its pid
        :raises OSError: somebody has killed it
        """
        self.pipe.send(None)
        for descriptor in descriptors:
            send_handle(self.pipe, descriptor, self.pid)
        return int(self.pipe.recv())

    def end(self, pid: int) -> int:
        """End a process, unless it has ended: how, as subprocess has it."""
        self.pipe.send(pid)
        return int(self.pipe.recv())

    def close(self) -> None:
        """Let it end, and wait, so that its time counts as this process's."""
        self.pipe.close()
        deadline = time.monotonic() + EXIT_SECONDS
        with suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.01)


_FORKS: dict[tuple[str, tuple[Path, ...]], Forks] = {}


def start(model_type: str, plugin_files: tuple[Path, ...], *descriptors: int) -> tuple[Forks, int]:
    """Start a fresh process for a type of models.

    :param descriptors: as for `Forks.start`
    :return: what forked it, anew if somebody has killed that; and its pid
    """
    key = model_type, plugin_files
    if (forks := _FORKS.get(key)) is not None:
        with suppress(OSError, EOFError):
            return forks, forks.start(*descriptors)
    forks = _spawn(*key)
    return forks, forks.start(*descriptors)


def _keep(model_type: str, plugin_files: tuple[Path, ...], pid: int, pipe: Connection) -> Forks:
    forks = _FORKS[model_type, plugin_files] = Forks(pid, pipe)
    atexit.register(forks.close)
    return forks


def _spawn(model_type: str, plugin_files: tuple[Path, ...]) -> Forks:
    program = "import sys; from hfopt.worker.forks import fork; fork(*sys.argv[1:])"
    pipe, theirs = Pipe()
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", program, str(theirs.fileno()), model_type, *map(str, plugin_files)],
            {**environment(offline=True), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            file_actions=[(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)],
        )
    return _keep(model_type, plugin_files, pid, pipe)


def fork(descriptor: str, model_type: str, *plugin_files: str) -> None:
    """Import what a type of models needs, then fork processes that `serve`, until the parent ends.

    :param descriptor: of the pipe: None asks for a process, a pid for its end
    """
    plugins = Plugins.discover(tuple(map(Path, plugin_files)))
    preload(plugins, model_type)
    _fork_on_request(Connection(int(descriptor)), plugins)


def fork_from_here(plugins: Plugins, model_type: str) -> None:
    """Import what a type of models needs, and keep a copy of this process to fork from: nothing is imported twice.

    For a worker that has run nothing yet; one that has these modules may have threads, and is left alone.
    """
    if not preload(plugins, model_type):
        return
    pipe, theirs = Pipe()
    if pid := os.fork():
        theirs.close()
        _keep(model_type.rpartition(":")[2], plugins.files, pid, pipe)
        return
    try:
        end_with_parent()
        given = environment(offline=True)
        os.environ.clear()
        os.environ.update(given)
        with open(os.devnull, "r+b") as nowhere:
            for number in (0, 1, 2):
                os.dup2(nowhere.fileno(), number)
        os.closerange(3, theirs.fileno())  # the worker's: its answers, its token
        os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        _fork_on_request(theirs, plugins)
    finally:
        os._exit(0)


def preload(plugins: Plugins, model_type: str) -> bool:
    """Import what opening a type of models needs. A failure is none: opening fails in the same way, and says why.

    :return: whether there was something to import
    """
    return attempt(lambda: _import(plugins.find("hfopt_model_loaders", model_type).load().preload))[0] or False


def _import(modules: Sequence[str]) -> bool:
    """Import modules, unless one is there. Of PyTorch half a million objects stay: no collection looks at them."""
    if not modules or any(module in sys.modules for module in modules):
        return False
    collects = gc.isenabled()
    gc.disable()
    try:
        for module in modules:
            import_module(module)
    finally:
        gc.freeze()
        if collects:
            gc.enable()
    return True


def _fork_on_request(pipe: Connection, plugins: Plugins) -> None:
    ended: dict[int, int] = {}
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            if pid := pipe.recv():
                if pid not in ended:
                    os.kill(pid, signal.SIGKILL)  # which changes nothing for one that is ending
                    ended[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                pipe.send(ended[pid])
                continue
            theirs, printed = recv_handle(pipe), recv_handle(pipe)
            if pid := os.fork():
                os.close(theirs)
                os.close(printed)
                pipe.send(pid)
                continue
            pipe.close()
            end_with_parent()
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            serve(theirs, plugins)
            return


def serve(descriptor: int, plugins: Plugins) -> None:
    """In a timing process: open the model, then answer requests until it is told to end, or the parent ends.

    :param descriptor: of the pipe
    """
    pipe = Connection(descriptor)
    with suppress(ConnectionError, KeyboardInterrupt):
        if (problem := attempt(lambda: _answer(pipe, plugins))[1]) is not None:
            pipe.send(HfoptError(problem))  # after the pipe's end nobody reads it


def _answer(pipe: Connection, plugins: Plugins) -> None:
    from hfopt.worker.context import open_model

    try:
        timed, accelerator, feeds = pipe.recv()
        with open_model(plugins, timed.model, accelerator, timed.settings) as session:
            calls = [(session.bind_next if timed.next_token else session.bind)(batch) for batch in feeds]
            pipe.send([])
            while request := pipe.recv():
                start, count, sleep = request
                pipe.send([_run(calls[(start + run) % len(calls)], sleep) for run in range(count)])
    except HfoptError as error:
        pipe.send(HfoptError(error.message, hint=error.hint))


def _run(call: Callable[[], None], sleep: float) -> float:
    if sleep:
        time.sleep(sleep)
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6

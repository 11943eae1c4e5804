"""For systems whose worker answers line by line: the host's end of one, and the system that keeps one at hand."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from hfopt.api.protocol import Fault, Message, Progress, Request, StepRequest, StepResult
from hfopt.api.systems import System, SystemContext
from hfopt.base.processes import OFFLINE, QUIET, describe_exit, environment, secrets_passed
from hfopt.base.secrets import known, redacted

__all__ = [
    "OFFLINE",
    "QUIET",
    "ProcessWorker",
    "Worker",
    "WorkerSystem",
    "describe_exit",
    "environment",
    "keep",
    "lost",
    "worker_arguments",
]


class Worker(ABC):
    """The host's end of a worker: ``python -m hfopt worker`` somewhere."""

    @abstractmethod
    def ask(self, request: str) -> Iterator[str]:
        """Write one line.

        :return: the lines that the worker answers, until it is gone; what is not read is for the next request
        :raises OSError: it is gone
        """

    @abstractmethod
    def alive(self) -> bool:
        """Whether it can be asked."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, with whatever it has started. Another thread may be reading its answers."""

    @abstractmethod
    def end(self) -> Fault:
        """Let it end in its own way if it does so soon, kill it if not, and say how it ended."""


class WorkerSystem(System):
    """Runs steps one after another in a worker; a lost worker is replaced for the next step."""

    def __init__(self, config: Any, context: SystemContext) -> None:
        super().__init__(config, context)
        self._lock = threading.Lock()
        self._ended = False
        self._worker: Worker | None = None
        self._one_by_one = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker-system")

    @abstractmethod
    def start(self, step: StepRequest) -> Worker:
        """Start a worker for a step, and for what comes after it.

        :raises OSError: that is not possible
        """

    def fits(self, worker: Worker, step: StepRequest) -> bool:
        """Whether a worker that is alive has all that a step needs: if not, another one is started."""
        return True

    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        return [self._one_by_one.submit(self.execute, step, on_progress) for step in steps]

    def cancel(self) -> None:
        self._one_by_one.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._ended = True
            if self._worker is not None:
                self._worker.kill()

    def close(self) -> None:
        self._one_by_one.shutdown(cancel_futures=True)
        if self._worker is not None:
            self._worker.end()

    def execute(self, step: StepRequest, on_progress: Callable[[Progress], None]) -> StepResult:
        """Have the worker run a step; in the thread that alone asks it."""
        try:
            worker = self._ready(step)
        except OSError as error:
            fault = Fault(type="WorkerNotStarted", message=f"a worker could not be started: {error}")
            return StepResult(key=step.key, fault=fault)
        with suppress(OSError):
            for line in worker.ask(Request(steps=(step,)).model_dump_json()):
                message = Message.validate_json(line)
                if isinstance(message, StepResult):
                    return message
                on_progress(message)
        fault = worker.end()
        with self._lock:
            self._worker = None
        return StepResult(key=step.key, fault=fault)

    def _ready(self, step: StepRequest) -> Worker:
        """The worker, a new one if it has died. Under the lock, so that `cancel` sees it or keeps it from starting."""
        with self._lock:
            if self._worker is not None:
                if self._worker.alive() and self.fits(self._worker, step):
                    return self._worker
                self._worker.end()
                self._worker = None
            if self._ended:
                raise ChildProcessError("the run is over")
            self._worker = self.start(step)
            return self._worker


class ProcessWorker(Worker):
    """A worker that is a child process, which leads a process group of its own.

    :param python: the interpreter, with its options: hfopt can be imported there
    :param environment: all that the child gets, but for the secrets that only a file without a name carries
    """

    def __init__(self, python: Sequence[str], environment: Mapping[str, str], context: SystemContext) -> None:
        self._context = context
        with secrets_passed() as (files, descriptors):
            self._child = subprocess.Popen(
                [*python, *worker_arguments(context, context.store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="backslashreplace",
                env={**environment, **context.log_levels, **files},
                pass_fds=descriptors,
                start_new_session=True,
            )
        self._log = threading.Thread(target=keep, args=(self._child.stderr, context.log), name="log", daemon=True)
        self._log.start()

    def ask(self, request: str) -> Iterator[str]:
        requests = cast("IO[str]", self._child.stdin)
        requests.write(request + "\n")
        requests.flush()
        return cast("IO[str]", self._child.stdout)

    def alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def end(self) -> Fault:
        with suppress(OSError):
            cast("IO[str]", self._child.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=3)
        self.kill()
        self._child.wait()
        cast("IO[str]", self._child.stdout).close()
        self._log.join(timeout=1)  # what left the group may hold the pipe open
        return lost(describe_exit(self._child.returncode), self._context)


def worker_arguments(context: SystemContext, store: Path) -> list[str]:
    """What Python gets to be a worker.

    :param store: the artifact store's folder, as the worker sees it
    """
    arguments = ["-m", "hfopt", "worker", "--store", str(store)]
    arguments += [f"--plugin={file}" for file in context.plugin_files]
    return [*arguments, "--offline"] if context.offline else arguments


def lost(how: str, context: SystemContext) -> Fault:
    """The failure of a step whose worker is gone.

    :param how: ``was killed by SIGKILL``
    """
    hint = f"what it printed is in {context.log}"
    return Fault(type="WorkerDied", message=f"the worker {how}", hint=hint)


def keep(printed: IO[str], file: Path) -> None:
    """Copy what a worker and its children print into the run's log, without secrets. On a full disk it is lost."""
    secrets = known()
    with printed:
        for line in printed:
            with suppress(OSError), open(file, "a", encoding="utf-8") as log:
                log.write(redacted(line, secrets))

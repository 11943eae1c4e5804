"""LocalSystem: a persistent child process on this interpreter.

The host never imports a framework, and a crash or an out-of-memory kill is a failed step, not a dead run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, ClassVar, cast

from hfopt.api.protocol import Fault, Message, Progress, Request, StepRequest, StepResult
from hfopt.api.systems import System, SystemConfig, SystemContext
from hfopt.base.processes import TOKEN_PATH, describe_exit, environment, token_file
from hfopt.discovery import versions
from hfopt.measuring import machine


class LocalSystem(System):
    """Runs steps one after another in a child process; a lost child is replaced for the next step."""

    Config: ClassVar[type[SystemConfig]] = SystemConfig

    def __init__(self, config: Any, context: SystemContext) -> None:
        super().__init__(config, context)
        self._fingerprint = cache(versions.fingerprint)
        self._waiting: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._ended = False
        self._child: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._drive, name="local-system", daemon=True)
        self._thread.start()

    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        jobs = [_Job(step, on_progress, Future()) for step in steps]
        with self._wake:
            self._waiting.extend(jobs)
            self._wake.notify()
        return [job.future for job in jobs]

    def cancel(self) -> None:
        with self._wake:
            self._ended = True
            dropped, self._waiting = list(self._waiting), deque()
            child = self._child
            self._wake.notify()
        for job in dropped:
            job.future.cancel()
        if child is not None:
            _kill_group(child)

    def fingerprint(self, distribution: str | None) -> dict[str, str]:
        return self._fingerprint(distribution)

    def machine(self) -> dict[str, Any]:
        return machine.describe()

    def close(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(timeout=5)

    # -- the driving thread -----------------------------------------------------------------------------------------

    def _drive(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    break
                job = self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(self._execute(job))
                except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever waits for the result
                    job.future.set_exception(error)
        if self._child is not None:
            self._stop(self._child)

    def _execute(self, job: _Job) -> StepResult:
        try:
            child = self._ready_child()
        except OSError as error:
            fault = Fault(type="WorkerNotStarted", message=f"a worker could not be started: {error}")
            return StepResult(key=job.step.key, fault=fault)
        requests, answers = cast("IO[str]", child.stdin), cast("IO[str]", child.stdout)
        with suppress(OSError):
            requests.write(Request(steps=(job.step,)).model_dump_json() + "\n")
            requests.flush()
            for line in answers:
                message = Message.validate_json(line)
                if isinstance(message, StepResult):
                    return message
                job.on_progress(message)
        self._stop(child)
        with self._wake:
            self._child = None
        return StepResult(key=job.step.key, fault=self._lost(child.returncode))

    def _ready_child(self) -> subprocess.Popen[str]:
        """The child, a new one if it has died. Under the lock, so that `cancel` sees it or keeps it from starting."""
        with self._wake:
            child = self._child
            if child is not None:
                if child.poll() is None:
                    return child
                _kill_group(child)
            if self._ended:
                raise ChildProcessError("the run is over")
            self._child = self._start()
            return self._child

    def _lost(self, code: int) -> Fault:
        return Fault(
            type="WorkerDied",
            message=f"the worker {describe_exit(code)}",
            hint=f"what it printed is in {self.context.log}",
        )

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hfopt", "worker", "--store", str(self.context.store)]
        for file in self.context.plugin_files:
            command += ["-p", str(file)]
        if self.context.offline:
            command.append("--offline")
        env = {**environment(offline=self.context.offline), **self.context.log_levels}
        with open(self.context.log, "ab") as log, token_file() as token:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=env if token is None else {**env, TOKEN_PATH: f"/dev/fd/{token}"},
                pass_fds=() if token is None else (token,),
                start_new_session=True,
            )

    def _stop(self, child: subprocess.Popen[str]) -> None:
        """End the child, in its own way if it ends soon, and whatever it has started."""
        with suppress(OSError):
            cast("IO[str]", child.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=3)
        _kill_group(child)
        child.wait()
        cast("IO[str]", child.stdout).close()


def _kill_group(child: subprocess.Popen[str]) -> None:
    """Kill a child and whatever it has started: it leads a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


@dataclass(frozen=True)
class _Job:
    """A step, who hears of its progress, and who waits for its result."""

    step: StepRequest
    on_progress: Callable[[Progress], None]
    future: Future[StepResult]

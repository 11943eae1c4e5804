"""LocalSystem: a persistent child process on this interpreter.

The host never imports a framework, and a crash or an out-of-memory kill is a failed step, not a dead run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar, cast

from hfopt.api.protocol import Fault, Message, Progress, Request, StepRequest, StepResult
from hfopt.api.systems import System, SystemConfig, SystemContext
from hfopt.base.processes import describe_exit, environment, secrets_passed
from hfopt.base.secrets import known, redacted


class LocalSystem(System):
    """Runs steps one after another in a child process; a lost child is replaced for the next step."""

    Config = SystemConfig
    answered_here: ClassVar[tuple[str, ...]] = ("versions", "machine")
    """Questions that need no worker: it would run on this interpreter, and import no framework for them."""

    def __init__(self, config: Any, context: SystemContext) -> None:
        super().__init__(config, context)
        self._lock = threading.Lock()
        self._ended = False
        self._child: subprocess.Popen[str] | None = None
        self._one_by_one = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-system")

    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        return [self._one_by_one.submit(self._execute, step, on_progress) for step in steps]

    def cancel(self) -> None:
        self._one_by_one.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._ended = True
            if self._child is not None:
                _kill_group(self._child)

    def close(self) -> None:
        self._one_by_one.shutdown(cancel_futures=True)
        if self._child is not None:
            self._stop(self._child)

    # -- in the thread that drives the child -------------------------------------------------------------------------

    def _execute(self, step: StepRequest, on_progress: Callable[[Progress], None]) -> StepResult:
        if step.kind in self.answered_here:
            from hfopt.worker.serve import execute_here

            return execute_here(step, self.context, on_progress)
        try:
            child = self._ready_child()
        except OSError as error:
            fault = Fault(type="WorkerNotStarted", message=f"a worker could not be started: {error}")
            return StepResult(key=step.key, fault=fault)
        requests, answers = cast("IO[str]", child.stdin), cast("IO[str]", child.stdout)
        with suppress(OSError):
            requests.write(Request(steps=(step,)).model_dump_json() + "\n")
            requests.flush()
            for line in answers:
                message = Message.validate_json(line)
                if isinstance(message, StepResult):
                    return message
                on_progress(message)
        self._stop(child)
        with self._lock:
            self._child = None
        lost, hint = f"the worker {describe_exit(child.returncode)}", f"what it printed is in {self.context.log}"
        return StepResult(key=step.key, fault=Fault(type="WorkerDied", message=lost, hint=hint))

    def _ready_child(self) -> subprocess.Popen[str]:
        """The child, a new one if it has died. Under the lock, so that `cancel` sees it or keeps it from starting."""
        with self._lock:
            if self._child is not None:
                if self._child.poll() is None:
                    return self._child
                self._stop(self._child)
            if self._ended:
                raise ChildProcessError("the run is over")
            self._child = self._start()
            return self._child

    def environment(self) -> dict[str, str]:
        """What the child gets."""
        return environment(offline=self.context.offline)

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hfopt", "worker", "--store", str(self.context.store)]
        command += [f"--plugin={file}" for file in self.context.plugin_files]
        command += ["--offline"] if self.context.offline else []
        with secrets_passed() as (files, descriptors):
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="backslashreplace",
                env={**self.environment(), **self.context.log_levels, **files},
                pass_fds=descriptors,
                start_new_session=True,
            )
        self._log = threading.Thread(target=_keep, args=(child.stderr, self.context.log), name="log", daemon=True)
        self._log.start()
        return child

    def _stop(self, child: subprocess.Popen[str]) -> None:
        """End the child, in its own way if it ends soon, and whatever it has started."""
        with suppress(OSError):
            cast("IO[str]", child.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=3)
        _kill_group(child)
        child.wait()
        cast("IO[str]", child.stdout).close()
        self._log.join(timeout=1)  # what left the group may hold the pipe open


def _keep(printed: IO[str], file: Path) -> None:
    """Copy what a worker and its children print into the run's log, without secrets. On a full disk it is lost."""
    secrets = known()
    with printed:
        for line in printed:
            with suppress(OSError), open(file, "a", encoding="utf-8") as log:
                log.write(redacted(line, secrets))


def _kill_group(child: subprocess.Popen[str]) -> None:
    """Kill a child and whatever it has started: it leads a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)

"""LocalSystem: a persistent child process on this interpreter.

The host never imports a framework, and a crash or an out-of-memory kill is a failed step, not a dead run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from hfopt.api.protocol import Progress, StepRequest, StepResult
from hfopt.api.systems import SystemConfig
from hfopt.api.workers import ProcessWorker, Worker, WorkerSystem
from hfopt.base.processes import environment

_ANSWERED_HERE = ("versions", "machine")
"""Questions that need no worker: it would run on this interpreter, and import no framework for them."""


class LocalSystem(WorkerSystem):
    """Runs steps one after another in a child process of this interpreter."""

    Config = SystemConfig

    def start(self, step: StepRequest) -> Worker:
        return ProcessWorker([sys.executable], environment(offline=self.context.offline), self.context)

    def execute(self, step: StepRequest, on_progress: Callable[[Progress], None]) -> StepResult:
        if step.kind in _ANSWERED_HERE:
            from hfopt.worker.serve import execute_here

            return execute_here(step, self.context, on_progress)
        return super().execute(step, on_progress)

"""``--in-process``: steps run in the CLI's own process, for a debugger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from hfopt.api.config import ReportProgress
from hfopt.api.protocol import Progress, StepRequest, StepResult
from hfopt.api.systems import System, SystemConfig
from hfopt.base.processes import disable_telemetry
from hfopt.worker.serve import execute_here


class InProcessSystem(System):
    """Runs each step at once, in the calling thread."""

    Config = SystemConfig

    def prepare(self, progress: ReportProgress) -> None:
        disable_telemetry()

    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        futures: list[Future[StepResult]] = [Future() for _ in steps]
        for step, future in zip(steps, futures, strict=True):
            future.set_result(execute_here(step, self.context, on_progress))
        return futures

    def cancel(self) -> None:
        """Nothing to do: a step that runs in the calling thread is interrupted by the interrupt itself."""

"""``--in-process``: steps run in the CLI's own process, for a debugger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, ClassVar

from hfopt.api.protocol import Progress, StepRequest, StepResult
from hfopt.api.systems import System, SystemConfig
from hfopt.cache.store import ArtifactStore
from hfopt.discovery import versions
from hfopt.discovery.plugins import Plugins
from hfopt.measuring import machine

_fingerprint = cache(versions.fingerprint)
"""Once a process: what has been imported stays as it is."""


class InProcessSystem(System):
    """Runs each step at once, in the calling thread."""

    Config: ClassVar[type[SystemConfig]] = SystemConfig

    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        from hfopt.worker.serve import Work

        plugins = Plugins.discover(self.context.plugin_files)
        work = Work(ArtifactStore(self.context.store), plugins, offline=self.context.offline)
        futures: list[Future[StepResult]] = []
        for step in steps:
            future: Future[StepResult] = Future()
            future.set_result(work.run(step, on_progress))
            futures.append(future)
        return futures

    def cancel(self) -> None:
        """Nothing to do: a step that runs in the calling thread is interrupted by the interrupt itself."""

    def fingerprint(self, distribution: str | None) -> dict[str, str]:
        return _fingerprint(distribution)

    def machine(self) -> dict[str, Any]:
        return machine.describe()

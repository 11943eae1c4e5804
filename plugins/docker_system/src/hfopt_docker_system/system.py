"""Docker: a worker in a container, replaced when it is lost, or when a step reads what it can't see yet."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from hfopt.api.config import ReportProgress
from hfopt.api.files import lock_folder
from hfopt.api.protocol import Progress, StepRequest, StepResult
from hfopt.api.systems import SystemContext
from hfopt.api.workers import OFFLINE, QUIET, Worker, WorkerSystem, worker_arguments
from hfopt_docker_system import image
from hfopt_docker_system.config import DockerConfig
from hfopt_docker_system.container import OUT_OF_MEMORY, ContainerWorker, options, remove, sweep
from hfopt_docker_system.engine import connect, explained
from hfopt_docker_system.mounts import mounts, places

_MADE, _TEMPORARY = "made", "tmp"
"""Folders in the container's own: finished artifacts, and what is large and needed for a while only."""


class Docker(WorkerSystem):
    """Runs steps one after another in a container."""

    Config = DockerConfig

    def __init__(self, config: DockerConfig, context: SystemContext) -> None:
        super().__init__(config, context)
        self._inputs: frozenset[str] = frozenset()
        self._until_closed = ExitStack()

    def prepare(self, progress: ReportProgress) -> None:
        self._client = connect()
        self._until_closed.callback(self._client.close)
        with explained("the engine could not be asked"):
            self._security: Sequence[str] = self._client.info().get("SecurityOptions") or ()
        sweep(self._client)
        self._image = image.ready(self._client, self.config, self.context, progress)
        self._own = self._until_closed.enter_context(own_folder(self.context.store))

    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        self._inputs |= {path for step in steps for path in step.paths.values()}
        return super().submit(steps, on_progress)

    def fits(self, worker: Worker, step: StepRequest) -> bool:
        return isinstance(worker, ContainerWorker) and worker.inputs >= {*step.paths.values()}

    def execute(self, step: StepRequest, on_progress: Callable[[Progress], None]) -> StepResult:
        begun = time.time()
        result = super().execute(step, on_progress)
        if result.manifest is not None:
            self.context.take_in(self._own / _MADE)
        elif isinstance(worker := self._worker, ContainerWorker) and worker.out_of_memory(begun):
            return result.model_copy(update={"fault": OUT_OF_MEMORY})
        return result

    def start(self, step: StepRequest) -> Worker:
        store, making, inputs = self.context.store, self.context.store / "making", self._inputs
        written = {folder: folder for folder in (store / "locks", machine_locks())} | {making: self._own}
        read = {store, *places(inputs)}
        bundle = self.context.bundle()
        files = tuple(bundle / "plugin-files" / file.name for file in self.context.plugin_files)
        environment = {
            **QUIET,
            **(OFFLINE if self.context.offline else {}),
            **self.context.log_levels,
            "HOME": "/tmp",  # noqa: S108 - the container's own
            "USER": "hfopt",  # the image knows no name of the caller's number
            "TMPDIR": str(making / _TEMPORARY),
            "HFOPT_LOCKS": str(machine_locks()),
            "PYTHONPATH": str(bundle),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        arguments = [*worker_arguments(replace(self.context, plugin_files=files), store), f"--made={making / _MADE}"]
        with explained("the container could not be made"):
            container = self._client.containers.create(
                self._image,
                ["python3", *arguments],
                entrypoint=[],
                **options(self.config, self._security, mounts(read, written), environment),
            )
        try:
            return ContainerWorker(self._client, container, inputs, self.context)
        except BaseException:
            remove(container)
            raise

    def close(self) -> None:
        super().close()
        self._until_closed.close()


@contextmanager
def own_folder(store: Path) -> Iterator[Path]:
    """A folder on the store's file system, the only one besides locks that the container may write to.

    It stands among what is in the making, with a lock of its name: if this process is killed, the next run removes it.
    """
    name = uuid4().hex
    for each in ("making", "locks"):
        (store / each).mkdir(parents=True, exist_ok=True)
    with open(store / "locks" / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        folder = Path(mkdtemp(prefix=f"{name}-", dir=store / "making"))
        try:
            for each in (_MADE, _TEMPORARY):
                (folder / each).mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)


def machine_locks() -> Path:
    """The folder of this machine's locks: models are timed in a container while nothing else runs outside of it."""
    folder = lock_folder()
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    return folder

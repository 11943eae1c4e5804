"""`hfopt worker`: executes requests from stdin, answers on stdout, until stdin ends.

The one thread that reads stdin is also the guard: when the host is gone, so is the worker with all that it started.
Steps run in the main thread.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast, get_args

from hfopt.api import logs
from hfopt.api.protocol import Fault, Progress, Question, Request, StepKind, StepRequest, StepResult
from hfopt.api.systems import SystemContext
from hfopt.base.errors import HfoptError, PluginError
from hfopt.base.processes import end_group
from hfopt.base.text import now
from hfopt.cache.locks import exclusive, machine_lock
from hfopt.cache.store import ArtifactStore, Manifest, Uses, digest_of, list_files
from hfopt.discovery.plugins import Plugins
from hfopt.worker.context import StepContext
from hfopt.worker.inputs import inputs_unchanged
from hfopt.worker.steps import data, fetch, measure, predict, questions, score, transform

GUARD_EXIT = 75
_STEPS = (fetch, data, transform, predict, score, measure)
_RUN = dict(zip(get_args(StepKind), (module.run for module in _STEPS), strict=True))
_ANSWER = {kind: getattr(questions, kind) for kind in get_args(Question)}
_PROGRESS_INTERVAL = 0.1
_WORTH_COLLECTING = 2**30
"""Bytes in memory between steps; looking takes some tenths of a second."""


def serve(store: Path, plugin_files: Sequence[Path], *, offline: bool = False) -> None:
    """Answer requests until stdin ends. Whatever else is printed in this process goes to stderr."""
    answers = _private_stdout()
    faulthandler.enable()
    logs.configure()
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    idle = threading.Event()
    idle.set()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        requests.put(None)
        if not idle.is_set():
            end_group()
            os._exit(GUARD_EXIT)

    threading.Thread(target=read, name="guard", daemon=True).start()
    work = Work(store, Plugins.discover(plugin_files), offline=offline)
    while (line := requests.get()) is not None:
        idle.clear()
        for step in Request.model_validate_json(line).steps:
            if step.kind not in _ANSWER:
                print(f"{now()} {step.name}: begins", file=sys.stderr, flush=True)
            result = work.run(step, lambda event: print(event.model_dump_json(), file=answers, flush=True))
            print(result.model_dump_json(), file=answers, flush=True)
        idle.set()


def _private_stdout() -> TextIO:
    """A stream of our own on stdout; fd 1 itself becomes stderr, so that no library's print breaks the protocol.

    What is printed is written by whole lines: the host and other workers write to the same log.
    """
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    return private


class Work:
    """Executes steps against one store with one set of plugins.

    :param root: of the artifact store
    :param offline: resources may make no request
    """

    def __init__(self, root: Path, plugins: Plugins, *, offline: bool) -> None:
        self.root = root
        self.plugins = plugins
        self.offline = offline

    def run(self, request: StepRequest, emit: Callable[[Progress], None]) -> StepResult:
        """Execute one step and commit its artifact, or answer a question; a failure is a result too."""
        started, peak = time.monotonic(), _watch_peak_memory()
        fault = answer = manifest = None
        try:
            check_distributions(request.distributions)
            store, progress = ArtifactStore(self.root, request.paths), _throttled(request.key, emit)
            step = StepContext(request, self.root, store, self.plugins, progress, self.offline)
            if request.kind in _ANSWER:
                answer = _ANSWER[request.kind](step)
            elif (manifest := store.find(request.key)) is None:
                for parent in request.inputs.values():
                    store.need(parent)  # before it waits for its turn, which what follows a failed step never gets
                emit(Progress(key=request.key, phase="running"))
                manifest = _make_in_turn(step, peak, emit)
        except Exception as error:  # noqa: BLE001 - a step may raise anything; the worker lives on and says so
            fault = _fault(error)
        seconds = time.monotonic() - started
        memory = peak() if fault is None else None
        made = None if manifest is None else manifest.model_dump(mode="json")
        told = {"fault": fault, "manifest": made, "answer": answer}
        return StepResult(key=request.key, seconds=seconds, peak_rss_bytes=memory, **told)


def _fault(error: Exception) -> Fault:
    """A failure as an answer; one that was not foreseen goes to the log with its traceback."""
    if isinstance(error, HfoptError):
        return Fault(type=type(error).__name__, message=error.message, hint=error.hint)
    traceback.print_exception(error)
    text, name = str(error).strip().splitlines(), type(error).__name__
    message = f"{name}: {text[0] if text else ''}".removesuffix(": ")
    return Fault(type=name, message=message, expected=False, traceback="".join(traceback.format_exception(error)))


def work_for(context: SystemContext) -> Work:
    """What a worker of a system does, in this process."""
    return Work(context.store, Plugins.discover(context.plugin_files), offline=context.offline)


def check_distributions(needed: Mapping[str, str]) -> None:
    """See that hfopt and the plugins that a step needs are here, in the version that the host has.

    :param needed: version by name
    :raises PluginError: with the package, what is needed and what was found
    """
    for name, version in needed.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != version:
            raise PluginError(f"{name} {version} is needed where the step runs; found: {found}")


def _make_in_turn(step: StepContext, peak: Callable[[], int | None], emit: Callable[[Progress], None]) -> Manifest:
    """Make the artifact, unless another run made it while this one waited for its turn."""
    request = step.request

    def waiting(phase: str) -> Callable[[], None]:
        return lambda: emit(Progress(key=request.key, phase=phase))

    others = "waiting for other steps to end" if request.measures else "waiting for a measurement to end"
    with (
        exclusive(step.store.lock(request.key), waiting("waiting for another run that does the same")),
        machine_lock(alone=request.measures, waiting=waiting(others)),
    ):
        return step.store.find(request.key) or _make(step, time.monotonic(), peak)


def _make(step: StepContext, started: float, peak: Callable[[], int | None]) -> Manifest:
    request, store = step.request, step.store
    with store.making(request.key) as folder:
        with inputs_unchanged(step):
            outcome = _RUN[request.kind](replace(step, folder=folder))
        uses = Uses() if outcome.model is None else store.write_model(folder, outcome.model)
        files = list_files(folder)
        manifest = Manifest(
            **request.model_dump(include={"key", "name", "kind", "component", "config", "inputs", "recipe"}),
            files=files,
            digest=digest_of(files),
            uses=uses,
            created=now(),
            seconds=round(time.monotonic() - started, 3),
            peak_rss_bytes=peak(),
            metrics=dict(outcome.metrics),
            report=dict(outcome.report),
        )
        store.commit(folder, manifest)
        return manifest


def _throttled(key: str, emit: Callable[[Progress], None]) -> Callable[[str, int, int | None], None]:
    """Progress at most ten times a second; the first and last of a phase always."""
    last = [("", 0.0)]

    def report(phase: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if phase != last[0][0] or done == total or now - last[0][1] >= _PROGRESS_INTERVAL:
            last[0] = (phase, now)
            emit(Progress(key=key, phase=phase, done=done, total=total))

    return report


def _watch_peak_memory() -> Callable[[], int | None]:
    """Start over the process's high-water mark of resident memory, without what earlier steps have left behind.

    :return: reads it, in bytes; None where the kernel can't start it over, since it would be another step's
    """

    def start_over() -> None:
        Path("/proc/self/clear_refs").write_text("5")

    def read() -> int | None:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peak[0]) * 1024 if peak else None

    try:
        start_over()
        if (read() or 0) > _WORTH_COLLECTING:
            _give_back_memory()
            start_over()
    except OSError:
        return lambda: None
    return read


def _give_back_memory() -> None:
    """Models lie in cycles until Python happens to look, and glibc keeps what is freed: gigabytes, of a large one."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)

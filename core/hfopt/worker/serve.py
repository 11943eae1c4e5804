"""`hfopt worker`: executes requests from stdin, answers on stdout, until stdin ends.

The one thread that reads stdin is also the guard: when the host is gone, so is the worker with all that it started.
Steps run in the main thread.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import logging
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from typing import cast, get_args

from packaging.requirements import Requirement

from hfopt.api import logs, scripts
from hfopt.api.protocol import Fault, Progress, Question, Request, StepKind, StepRequest, StepResult
from hfopt.api.systems import SystemContext
from hfopt.base.errors import PluginError, foreseen
from hfopt.base.processes import end_group, keep_secrets
from hfopt.base.secrets import redacted
from hfopt.base.text import now
from hfopt.base.values import map_strings
from hfopt.cache.locks import exclusive, machine_lock
from hfopt.cache.manifest import Manifest, Uses, digest_of, list_files, make_read_only
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins
from hfopt.discovery.versions import AS_AT_HOME
from hfopt.worker.context import StepContext
from hfopt.worker.forks import fork_from_here
from hfopt.worker.inputs import inputs_unchanged
from hfopt.worker.steps import data, fetch, measure, predict, questions, score, transform

GUARD_EXIT = 75
_STEPS = (fetch, data, transform, predict, score, measure)
_RUN = dict(zip(get_args(StepKind), (module.run for module in _STEPS), strict=True))
_ANSWER = {kind: getattr(questions, kind) for kind in get_args(Question)}
_PROGRESS_INTERVAL = 0.1
_WORTH_COLLECTING = 2**29
"""Bytes in memory between steps; looking takes some tenths of a second."""


def serve(store: Path, plugin_files: Sequence[Path], *, offline: bool = False, made: Path | None = None) -> None:
    """Answer requests until stdin ends. Whatever else is printed in this process goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # so that no library's print breaks the protocol
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)  # others write to the same log: by whole lines
    keep_secrets()
    faulthandler.enable()
    if logs.OWN in os.environ:  # to stderr, which is hfopt.log
        logging.basicConfig(level=logs.python_level(logs.OWN, 2), format="%(levelname)s %(name)s: %(message)s")
    requests: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        with open(0, encoding="utf-8", errors="replace") as lines:  # whatever the encoding of this process is
            for line in lines:
                requests.put(line)
        if requests.unfinished_tasks:  # one that nobody has begun counts too
            end_group()
            os._exit(GUARD_EXIT)
        requests.put(None)

    def answer(message: Progress | StepResult) -> None:
        print(message.model_dump_json(), file=answers, flush=True)

    threading.Thread(target=read, name="guard", daemon=True).start()
    plugins = Plugins.discover(plugin_files)
    while (line := requests.get()) is not None:
        for step in Request.model_validate_json(line).steps:
            if step.kind not in _ANSWER:
                print(f"{now()} {step.name}: begins", file=sys.stderr, flush=True)
            if step.kind == "fetch" and step.pin is None:
                fork_from_here(plugins, step.component)
            answer(execute(step, store, plugins, answer, offline=offline, made=made))
        requests.task_done()


def execute(
    request: StepRequest,
    root: Path,
    plugins: Plugins,
    emit: Callable[[Progress], None],
    *,
    offline: bool,
    made: Path | None = None,
) -> StepResult:
    """Execute one step and commit its artifact, or answer a question; a failure is a result too.

    :param root: of the artifact store
    :param offline: resources may make no request
    :param made: for the artifact, where the store can only be read
    """
    started, peak = time.monotonic(), _watch_peak_memory()
    fault = answer = manifest = None
    try:
        check_distributions(request.distributions)
        store = ArtifactStore(root, request.paths, made=made, once=True)
        step = StepContext(request, root, store, plugins, _throttled(request.key, emit), offline)
        if request.kind in _ANSWER:
            answer = _ANSWER[request.kind](step)
        elif (manifest := store.find(request.key)) is None:
            store.closure(request.inputs.values())  # before its turn: what follows a failed step never gets one
            emit(Progress(key=request.key, phase="running"))
            manifest = _make_in_turn(step, peak, emit)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a step may raise anything; the worker lives on and says so
        fault = fault_of(error, root)
    finally:
        scripts.forget()
    seconds, memory = time.monotonic() - started, peak() if fault is None else None
    dumped = None if manifest is None else manifest.model_dump(mode="json")
    told = {"fault": fault, "manifest": dumped, "answer": answer}
    return StepResult(key=request.key, seconds=seconds, peak_rss_bytes=memory, **told)


def execute_here(request: StepRequest, context: SystemContext, emit: Callable[[Progress], None]) -> StepResult:
    """What a worker of a system does, in this process."""
    return execute(request, context.store, Plugins.discover(context.plugin_files), emit, offline=context.offline)


def fault_of(error: BaseException, place: Path | None = None) -> Fault:
    """A failure as an answer; one that was not foreseen goes to the log with its traceback.

    :param place: where files are written
    """
    if (failure := foreseen(error, place)) is not None:
        return Fault(type=type(error).__name__, message=failure.message, hint=failure.hint)
    told = "".join(traceback.format_exception(error))
    print(redacted(told), end="", file=sys.stderr)
    text, name = str(error).strip().splitlines(), type(error).__name__
    message = f"{name}: {text[0] if text else ''}".removesuffix(": ")
    return Fault(type=name, message=message, expected=False, traceback=told)


def check_distributions(needed: Mapping[str, str]) -> None:
    """See that hfopt and the plugins that a step needs are here, in the version that the host has, and what they need.

    :param needed: version by name
    :raises PluginError: with the package, what is needed and what was found
    """
    for name, version in needed.items():
        _check(name, version)


@cache
def _check(name: str, version: str) -> None:
    """See that one is here; what this process has found once it need not look for again."""
    if (found := _found(name)) != version:
        hint = f"hfopt can't bring {name} if it has compiled files: install {name}=={version} there"
        raise PluginError(f"{name} {version} is needed where the step runs; found: {found}", hint=hint)
    if wrong := _misfits(name):
        told = "; ".join(f"{need} is needed by {name}; found: {there}" for need, there in wrong.items())
        command = f"{sys.executable} -m pip install {' '.join(map(repr, wrong))}"
        raise PluginError(f"packages where the step runs don't fit: {told}", hint=command)


def _found(name: str) -> str:
    return next((each.version for each in metadata.distributions(name=name)), "none")


def _misfits(name: str) -> dict[str, str]:
    """What is found here instead of the requirements of a distribution that was brought here; pip sees to others."""
    if metadata.distribution(name).read_text(AS_AT_HOME) is None:
        return {}
    needs = [Requirement(line) for line in metadata.requires(name) or () if "extra" not in line]
    found = {need: _found(need.name) for need in needs if need.marker is None or need.marker.evaluate()}
    return {
        f"{need.name}{need.specifier}": there
        for need, there in found.items()
        if there == "none" or not need.specifier.contains(there, prereleases=True)
    }


def _make_in_turn(step: StepContext, peak: Callable[[], int | None], emit: Callable[[Progress], None]) -> Manifest:
    """Make the artifact, unless another run made it while this one waited for its turn."""
    request = step.request

    def waiting(what: str) -> Callable[..., None]:
        return lambda who="": emit(Progress(key=request.key, phase=f"waiting for {what}{who and f': {who}'}"))

    others = waiting("other steps to end" if request.measures else "a measurement to end")
    with (
        exclusive(step.store.lock(request.key), waiting("another run that does the same")),
        machine_lock(alone=request.measures, waiting=others),
    ):
        return step.store.find(request.key) or _make(step, peak)


def _make(step: StepContext, peak: Callable[[], int | None]) -> Manifest:
    request, store, started = step.request, step.store, time.monotonic()
    with store.making(request.key) as folder:
        with inputs_unchanged(step):
            outcome = _RUN[request.kind](replace(step, folder=folder))
        uses = Uses() if outcome.model is None else store.write_model(folder, outcome.model)
        make_read_only(folder)
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
            report=map_strings(dict(outcome.report), redacted),
        )
        return store.commit(folder, manifest)


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

    def read() -> int | None:
        peak = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(peak[1]) * 1024 if peak else None

    start_over = partial(Path("/proc/self/clear_refs").write_text, "5")
    try:
        start_over()
        if (read() or 0) > _WORTH_COLLECTING:
            gc.collect()  # models lie in cycles until Python happens to look
            with suppress(OSError, AttributeError):  # another C library than glibc, which keeps what is freed
                ctypes.CDLL(None).malloc_trim(0)
            start_over()
    except OSError:
        return lambda: None
    return read

"""Runs a plan: what the cache does not have goes to the systems, whatever is ready at once.

Knows nothing of terminals (`hfopt.cli.terminal`) nor of run.json's shape (`hfopt.engine.record`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hfopt.api import logs
from hfopt.api.protocol import Fault, Progress, StepResult
from hfopt.api.systems import System, SystemContext
from hfopt.base.errors import ExitCode, HfoptError, PluginError, UsageError
from hfopt.base.files import LOG
from hfopt.cache.journal import Journal, RunLog
from hfopt.cache.keys import Digests
from hfopt.cache.locks import using_cache
from hfopt.cache.store import ArtifactStore, now
from hfopt.config.document import read
from hfopt.config.resolve import DEFAULT_SYSTEM, RunConfig, resolve
from hfopt.discovery.plugins import Plugins
from hfopt.engine.questions import missing_accelerators, resolve_references
from hfopt.engine.record import Interrupted, RunRecord, make_record, write_record
from hfopt.engine.reporting import LogFile, LogReporter, Reporter
from hfopt.engine.results import package, save_models
from hfopt.engine.state import RunState
from hfopt.planning.builder import build
from hfopt.planning.graph import Plan, Step
from hfopt.planning.identity import Identity, identities, request

_TRUE = ("1", "ON", "YES", "TRUE")


def run(
    config: Path | str | dict[str, Any],
    *,
    output_dir: Path | str | None = None,
    plugin_files: Sequence[Path] = (),
    in_process: bool = False,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> RunRecord:
    """Run a config: `hfopt run` in Python.

    Finished steps are kept in the cache, so that the same call after a kill, a failure or an edit repeats none of them.

    :param config: a .json, .yaml or .toml file, or the same as a dictionary (paths relative to the current folder)
    :param output_dir: instead of the config's; gets run.json, best/ and hfopt.log
    :param plugin_files: Python files with hooks, beside the installed plugins
    :param in_process: run steps in this process instead of in workers
    :param offline: make no request: models and data come from local folders and the hub's cache; so it is too where
        HF_HUB_OFFLINE is set
    :return: what run.json holds; a failed step is in there and raises nothing
    :raises ConfigError: every mistake in the config, before anything runs
    :raises PluginError: no accelerator of the config is available
    :raises UsageError: output_dir can't be written
    :raises Interrupted: a KeyboardInterrupt, which is sent on when what was done is recorded
    """
    plugins = Plugins.discover(plugin_files)
    resolved = resolve(read(config), plugins)
    folder = _writable(Path(output_dir or resolved.engine.output_dir) / (resolved.engine.output_name or ""))
    reporter = LogFile(folder / LOG, reporter or LogReporter())
    store = ArtifactStore(_writable(Path(resolved.engine.cache_dir)))
    store.sweep()
    started = now()
    journal = Journal(store.root, reporter.notice)
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE
    context = SystemContext(
        store.root,
        folder / LOG,
        tuple(file.absolute() for file in plugin_files),
        offline,
        logs.environment_for(
            resolved.engine.log_severity_level,
            resolved.engine.ort_log_severity_level,
            resolved.engine.ort_py_log_severity_level,
        ),
    )
    with ExitStack() as stack:
        if not stack.enter_context(using_cache(store.root)):
            reporter.notice(f"{store.root}: there are no locks on its file system: don't run two configs on it at once")
        systems = _open_systems(resolved, context, in_process, stack)
        plan = _plan(resolved, systems, reporter)
        log = stack.enter_context(journal.run(resolved.document.file, folder))
        work = Driver(plan, plugins, store, systems, reporter, log)
        try:
            work.drive()
            with _writing_to(folder):
                save_models(plan, work.state, store, plugins, folder)
                record = make_record(plan, work.state, store, plugins, folder, started)
                write_record(record)
                for made in package(plan, work.state, store, plugins, record):
                    reporter.notice(f"packaged: {made}")
        except KeyboardInterrupt:
            work.interrupt()
            record = make_record(plan, work.state, store, plugins, folder, started)
            write_record(record)
        log.end(record.status)
    plugins.call_lifecycle("hfopt_after_run", reporter.notice, record=record.data)
    if work.state.interrupted:
        raise Interrupted(record)
    return record


def _plan(config: RunConfig, systems: Mapping[str, System], reporter: Reporter) -> Plan:
    """The plan for the accelerators that are there.

    :raises PluginError: none is
    """
    plan = build(config, missing_accelerators(config, systems[config.target]))
    for notice in plan.notices:
        reporter.notice(notice)
    for accelerator, reason in plan.skipped:
        reporter.notice(f"{accelerator.device}, {accelerator.execution_provider}: skipped: {reason}")
    if not plan.branches:
        raise PluginError("no accelerator of the target is available: nothing to run on")
    return plan


def _writable(folder: Path) -> Path:
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"{folder}: can't be written: {error.strerror}") from error
    return folder


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Say what to do where the output can't be written, as on a full disk: no step is lost by it."""
    try:
        yield
    except OSError as error:
        raise HfoptError(
            f"{folder}: the result can't be written: {error.strerror or error}",
            hint="finished steps are in the cache: mend the folder or name another with --output-dir, then run again",
        ) from error


def _open_systems(config: RunConfig, context: SystemContext, in_process: bool, stack: ExitStack) -> dict[str, System]:
    """The systems that the config uses; a worker starts when it gets its first step."""
    systems: dict[str, System] = {}
    used = (DEFAULT_SYSTEM, config.host, config.target, *(entry.host for entry in config.passes.values()))
    for name in dict.fromkeys(used):
        chosen = config.systems[name]
        cls: type[System] = chosen.cls
        if in_process:
            from hfopt.systems.in_process import InProcessSystem

            cls = InProcessSystem
        systems[name] = cls(chosen.config, context)
        stack.push(partial(_close, systems[name]))
    return systems


def _close(system: System, failure: type[BaseException] | None, *_: object) -> None:
    """End a system: at once if the run did not come to its end."""
    if failure is not None:
        system.cancel()
    system.close()


class Driver:
    """Takes every step of a plan to a manifest or a fault."""

    def __init__(
        self,
        plan: Plan,
        plugins: Plugins,
        store: ArtifactStore,
        systems: Mapping[str, System],
        reporter: Reporter,
        log: RunLog,
    ) -> None:
        self.plan = plan
        self.plugins = plugins
        self.store = store
        self.systems = systems
        self.reporter = reporter
        self.log = log
        self.steps = plan.steps()
        self.machines = {name: system.machine() for name, system in systems.items()}
        self.resolved, unresolved = resolve_references(self.steps, systems[DEFAULT_SYSTEM])
        self.identities = self._identities()
        self.state = RunState({step: identity.key for step, identity in self.identities.items()})
        self.unresolved = {step: unresolved[step.token] for step in self.steps if step.token in unresolved}
        self.by_key = {key: step for step, key in self.state.keys.items()}

    def _identities(self) -> dict[Step, Identity]:
        digests = Digests(self.store.root)
        leaves = {str(path): digests.of(path) for step in self.steps for path in step.paths}
        digests.save()
        versions = {step: self._versions(step) for step in self.steps}
        return identities(self.steps, leaves, self.resolved, versions, self.machines)

    def _versions(self, step: Step) -> dict[str, Any]:
        system = self.systems[step.system]
        found = {registered.full_name: system.fingerprint(registered.distribution) for registered in step.needs}
        files = {registered.full_name: registered.digest for registered in step.needs if registered.source is not None}
        return {"components": found, "files": files}

    def drive(self) -> None:
        """Run until every step is settled."""
        for step in self.steps:
            manifest = self.store.find(self.state.keys[step])
            if manifest is not None:
                self.state.manifests[step] = manifest
                self.state.cached.add(step)
        for notice in dict.fromkeys(each.notice for each in self.resolved.values() if each.notice):
            self.reporter.notice(notice)
        self.reporter.begin(self.plan, len(self.state.cached), len(self.steps))
        for step in self.steps:
            if step in self.state.cached:
                self.reporter.finished(step, self.state.manifests[step], cached=True)
        self.log.note([self.state.noted(step) for step in self.state.manifests])
        self.plugins.call_lifecycle("hfopt_before_run", self.reporter.notice, plan=self.plan)
        for step, fault in self.unresolved.items():
            self._fail(step, fault)
        self._drive_uncached()

    def interrupt(self) -> None:
        """Stop what runs."""
        self.state.interrupted = True
        for system in self.systems.values():
            system.cancel()

    def _drive_uncached(self) -> None:
        order = {step: number for number, step in enumerate(self.steps)}
        running: dict[Future[StepResult], Step] = {}
        while True:
            self._give_up_on_orphans()
            running |= self._submit_ready(set(running.values()))
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for step, future in sorted(((running.pop(each), each) for each in done), key=lambda pair: order[pair[0]]):
                self._settle(step, future.result())

    def _give_up_on_orphans(self) -> None:
        """Steps, in order, one of whose parents failed can't run."""
        for step in self.steps:
            failed = [parent for parent in step.inputs.values() if parent in self.state.faults]
            if failed and not self.state.settled(step):
                fault = Fault(type="Blocked", message=f"not run, because {failed[0].name} failed")
                self.state.faults[step] = fault

    def _submit_ready(self, running: set[Step]) -> dict[Future[StepResult], Step]:
        """Hand every system, as one list, the steps whose parents are done or earlier in the same list."""
        submitted: dict[Future[StepResult], Step] = {}
        for name, system in self.systems.items():
            batch: list[Step] = []
            for step in self.steps:
                waiting = [parent for parent in step.inputs.values() if parent not in self.state.manifests]
                free = not self.state.settled(step) and step not in running
                if free and step.system == name and all(parent in batch for parent in waiting):
                    batch.append(step)
            for step in batch:
                self.plugins.call_lifecycle(
                    "hfopt_before_step", self.reporter.notice, step=step, key=self.state.keys[step]
                )
            requests = [request(step, self.identities, self.resolved, self.machines[name]["threads"]) for step in batch]
            if requests:
                submitted |= dict(zip(system.submit(requests, self._progress), batch, strict=True))
        return submitted

    def _progress(self, event: Progress) -> None:
        self.reporter.progress(self.by_key[event.key], event)

    def _settle(self, step: Step, result: StepResult) -> None:
        key = self.state.keys[step]
        fault = result.fault
        manifest = None if fault is not None else self.store.find(key)
        if manifest is not None:
            self.state.manifests[step] = manifest
            self.log.note([self.state.noted(step)])
            self.reporter.finished(step, manifest, cached=False)
            self.plugins.call_lifecycle(
                "hfopt_after_step", self.reporter.notice, step=step, key=key, metrics=manifest.metrics
            )
            return
        self._fail(step, fault or Fault(type="ArtifactMissing", message="the system returned no artifact"))

    def _fail(self, step: Step, fault: Fault) -> None:
        self.state.faults[step] = fault
        if any(self.state.faults.get(parent) for parent in step.inputs.values()):
            return
        self.log.note([self.state.noted(step)])
        self.reporter.failed(step, fault)
        self.plugins.call_lifecycle(
            "hfopt_on_step_error",
            self.reporter.notice,
            step=step,
            key=self.state.keys[step],
            message=fault.message,
        )


def exit_code(record: RunRecord) -> ExitCode:
    """What the shell gets for a run."""
    codes = {"succeeded": ExitCode.DONE, "interrupted": ExitCode.INTERRUPTED}
    return codes.get(record.status, ExitCode.NO_RESULT)

"""A run from its config to run.json and best/.

Knows nothing of terminals (`hfopt.cli.terminal`) nor of run.json's shape (`hfopt.engine.record`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hfopt.api import logs
from hfopt.api.systems import System, SystemConfig, SystemContext
from hfopt.base.component import PROJECT
from hfopt.base.errors import ExitCode, HfoptError, PluginError, UsageError
from hfopt.base.files import LOG
from hfopt.base.text import near, now
from hfopt.cache.bundle import bundle
from hfopt.cache.digests import Digests
from hfopt.cache.journal import Journal
from hfopt.cache.locks import using_cache
from hfopt.cache.store import ArtifactStore
from hfopt.config.document import read
from hfopt.config.resolve import RunConfig, resolve
from hfopt.discovery.plugins import Plugins
from hfopt.engine.driver import Driver
from hfopt.engine.questions import missing_accelerators
from hfopt.engine.record import Interrupted, RunRecord, write_record
from hfopt.engine.reporting import LogFile, LogReporter, Reporter
from hfopt.engine.results import package, save_models
from hfopt.engine.search import searching
from hfopt.engine.state import EndedRun
from hfopt.engine.strategy import EVERY_PASS, Strategy
from hfopt.planning.builder import Builder
from hfopt.planning.graph import Candidate, Final, Look, Plan, Step
from hfopt.systems.in_process import InProcessSystem
from hfopt.systems.local import LocalSystem

_TRUE = ("1", "ON", "YES", "TRUE")


def run(
    config: Path | str | dict[str, Any],
    *,
    output_dir: Path | str | None = None,
    plugin_files: Sequence[Path] = (),
    in_process: bool = False,
    offline: bool = False,
    reporter: Reporter | None = None,
    strategy: Strategy | None = None,
) -> RunRecord:
    """Run a config: `hfopt run` in Python.

    Finished steps are kept in the cache, so that the same call after a kill, a failure or an edit repeats none of them.

    :param config: a .json, .yaml or .toml file, or the same as a dictionary (paths relative to the current folder)
    :param output_dir: instead of the config's; gets run.json, best/ and hfopt.log
    :param plugin_files: Python files with hooks, beside the installed plugins
    :param in_process: run steps in this process instead of in workers
    :param offline: make no request: models and data come from local folders and the hub's cache; so it is too where
        HF_HUB_OFFLINE is set
    :param strategy: what is tried besides what the config asks for, and which candidate is the result, instead of what
        the config's search_strategy says
    :return: what run.json holds; a failed step is in there and raises nothing
    :raises ConfigError: every mistake in the config, before anything runs
    :raises PluginError: no accelerator of the config is available
    :raises UsageError: output_dir can't be written
    :raises Interrupted: a KeyboardInterrupt, which is sent on when what was done is recorded
    """
    plugins = Plugins.discover(plugin_files)
    resolved = resolve(read(config), plugins)
    engine = resolved.engine
    folder = _writable(Path(output_dir or engine.output_dir) / (engine.output_name or ""))
    reporter = LogFile(folder / LOG, reporter or LogReporter())
    cache = _writable(Path(engine.cache_dir))
    digests = Digests(cache)
    store = ArtifactStore(cache, digests=digests)
    store.sweep()
    started = now()
    journal = Journal(store.root, reporter.notice)
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE
    files = tuple(file.absolute() for file in plugin_files)
    levels = (engine.log_severity_level, engine.ort_log_severity_level, engine.ort_py_log_severity_level)
    context = SystemContext(
        store=store.root,
        take_in=store.take_in,
        log=folder / LOG,
        bundle=partial(bundle, store, plugins),
        plugin_files=files,
        offline=offline,
        log_levels=logs.environment_for(*levels),
    )
    with ExitStack() as stack:
        if not stack.enter_context(using_cache(store.root)):
            reporter.notice(f"{store.root}: there are no locks on its file system: don't run two configs on it at once")
        if (aside := store.set_aside_older()) is not None:
            reporter.notice(f"the cache was of another release of hfopt: it is set aside in {near(aside)}")
        builder = Builder(resolved, plugins)
        systems = _open_systems(builder, context, in_process, reporter, stack)
        plan = _plan(builder, systems, reporter)
        stack.callback(digests.save)
        log = stack.enter_context(journal.run(resolved.document.file, folder))
        driver = Driver(plugins, store, digests, systems, builder.fetching, reporter, log)
        state = driver.state
        if strategy is None:
            strategy = EVERY_PASS if resolved.search is None else searching(resolved.search, reporter)
        so_far = EndedRun(plan, {}, state, store, plugins, folder, started)

        def ended() -> EndedRun:
            return replace(so_far, best={branch: strategy.best(branch, so_far) for branch in plan.branches})

        def saved(*, running: bool = False) -> RunRecord:
            digests.save()
            save_models(ended())
            return write_record(ended(), running=running)

        new = driver.add(_results(resolved, [each for branch in plan.branches for each in branch.candidates]))
        try:
            reporter.begin(plan, len(state.cached), len(new))
            plugins.call_lifecycle("hfopt_before_run", reporter.notice, plan=plan)
            driver.announce(new)
            keep = Seldom(partial(saved, running=True))
            with _writing_to(folder):
                driver.drive(partial(_grow, strategy, builder, so_far, driver, keep))
                record = saved()
                for made in package(ended(), record):
                    reporter.notice(f"packaged: {made}")
        except KeyboardInterrupt:
            driver.interrupt()
            with _writing_to(folder):
                record = write_record(ended())
        log.end(record.status)
    plugins.call_lifecycle("hfopt_after_run", reporter.notice, record=record.data)
    if state.interrupted:
        raise Interrupted(record)
    return record


def _results(config: RunConfig, candidates: Iterable[Candidate]) -> Iterator[list[Step]]:
    """What is wanted: candidates with their figures, models that are saved on the way, the input model's figures."""
    saved = {name for name, entry in config.passes.items() if entry.output_name is not None}
    for each in candidates:
        yield [each.model, *each.scores, *each.measurements]
        yield from ([step] for step in each.passes if step.name in saved)
        yield from ([step] for step in each.baseline)


def _grow(strategy: Strategy, builder: Builder, run: EndedRun, driver: Driver, keep: Callable[[], None]) -> bool:
    """Add what the strategy wants now. The plan has it when the driver knows its keys.

    :param keep: writes what has been found so far
    :return: whether there are any
    """
    added = list(strategy.more(builder, run))
    if added and any(branch.candidates for branch in run.plan.branches):
        keep()
    for branch, each in added:
        if isinstance(each, Candidate):
            driver.announce(driver.add(_results(run.plan.config, [each])))
            branch.candidates.append(each)
        else:
            driver.announce(driver.add([each.steps()]))
            branch.finals.extend([each] if isinstance(each, Final) else [])
            branch.looks.extend([each] if isinstance(each, Look) and each.last else [])
    return bool(added)


class Seldom:
    """Does something when it is called, but not so often that it would take more than a fiftieth of the time."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._due = 0.0

    def __call__(self) -> None:
        started = time.monotonic()
        if started >= self._due:
            self._work()
            ended = time.monotonic()
            self._due = ended + 50 * (ended - started)


def _plan(builder: Builder, systems: Mapping[str, System], reporter: Reporter) -> Plan:
    """The plan for the accelerators that are there.

    :raises PluginError: none is
    """
    plan = builder.plan(missing_accelerators(builder.config, systems[builder.config.target]))
    skipped = (f"{each.device}, {each.execution_provider}: skipped: {reason}" for each, reason in plan.skipped)
    for notice in (*plan.config.notices, *skipped):
        reporter.notice(notice)
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
        hint = "finished steps are in the cache: mend the folder or name another with --output-dir, then run again"
        place = error.filename2 or error.filename or folder
        raise HfoptError(f"{place}: the result can't be written: {error.strerror or error}", hint=hint) from error


def _open_systems(
    builder: Builder, context: SystemContext, in_process: bool, reporter: Reporter, stack: ExitStack
) -> dict[str, System]:
    """The systems that the config uses, ready; a worker starts when it gets its first step."""
    config, needed = builder.config, builder.distributions()
    systems: dict[str, System] = {}
    used = (builder.fetching, config.host, config.target, *config.hosts)
    for name in dict.fromkeys(used):
        chosen = config.systems.get(name)
        cls: type[System] = InProcessSystem if in_process else LocalSystem if chosen is None else chosen.cls
        theirs = replace(context, distributions=(PROJECT, *needed.get(name, ())))
        systems[name] = cls(SystemConfig() if chosen is None else chosen.config, theirs)
        stack.push(partial(_close, systems[name]))
        systems[name].prepare(partial(reporter.preparing, name))
    return systems


def _close(system: System, failure: type[BaseException] | None, *_: object) -> None:
    """End a system: at once if the run did not come to its end."""
    if failure is not None:
        system.cancel()
    system.close()


def exit_code(record: RunRecord) -> ExitCode:
    """What the shell gets for a run."""
    codes = {"succeeded": ExitCode.DONE, "interrupted": ExitCode.INTERRUPTED}
    return codes.get(record.status, ExitCode.NO_RESULT)

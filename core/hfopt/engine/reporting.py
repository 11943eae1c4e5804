"""Reporters, which are told how a run goes. What a terminal shows is in `hfopt.cli.terminal`."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from hfopt.api.protocol import Fault, Progress
from hfopt.api.record import CandidateRecord
from hfopt.base.secrets import redacted
from hfopt.base.text import duration, now
from hfopt.base.version import __version__
from hfopt.cache.manifest import Manifest
from hfopt.engine.summary import trial_line
from hfopt.planning.graph import Plan, Step


class Reporter:
    """Is told how a run goes; does nothing itself. A running step's progress comes from another thread."""

    def notice(self, text: str) -> None:
        """Something that the user should know and need not act on."""

    def preparing(self, system: str, phase: str, done: int, total: int | None) -> None:
        """A system is being made ready."""

    def begin(self, plan: Plan, cached: int, total: int) -> None:
        """The plan is made."""

    def progress(self, step: Step, event: Progress) -> None:
        """A running step has made progress."""

    def finished(self, step: Step, manifest: Manifest, *, cached: bool) -> None:
        """A step has its result."""

    def failed(self, step: Step, fault: Fault) -> None:
        """A step ended without a result."""

    def tried(self, number: int, record: CandidateRecord, *, best: bool) -> None:
        """A trial of a search has ended.

        :param number: of the trial on its accelerator, from 1
        :param best: whether it is the best so far
        """


class LogReporter(Reporter):
    """Writes to the logger `hfopt`: failures as errors, notices as warnings (Python shows both), steps as info."""

    log = logging.getLogger("hfopt")

    def notice(self, text: str) -> None:
        self.log.warning("%s", text)

    def finished(self, step: Step, manifest: Manifest, *, cached: bool) -> None:
        self.log.info("%s: %s", step.name, "in the cache" if cached else f"{manifest.seconds:.1f} s")
        if "warning" in manifest.report:
            self.log.warning("%s: %s", step.name, manifest.report["warning"])

    def failed(self, step: Step, fault: Fault) -> None:
        self.log.error("%s: %s", step.name, fault.message)


class LogFile(Reporter):
    """Writes everything but progress to the run's log, to which workers also write, and passes everything on.

    A log that can't be written, for example on a full disk, fails no run.

    :param listener: the reporter that is told next
    """

    def __init__(self, file: Path, listener: Reporter) -> None:
        self.listener = listener
        self.file = file
        self._note(f"hfopt {__version__}")

    def notice(self, text: str) -> None:
        text = redacted(text)
        self._note(f"note: {text}")
        self.listener.notice(text)

    def preparing(self, system: str, phase: str, done: int, total: int | None) -> None:
        self.listener.preparing(system, redacted(phase), done, total)

    def begin(self, plan: Plan, cached: int, total: int) -> None:
        self._note(f"{total} steps, {cached} of them in the cache")
        self.listener.begin(plan, cached, total)

    def progress(self, step: Step, event: Progress) -> None:
        self.listener.progress(step, event)

    def finished(self, step: Step, manifest: Manifest, *, cached: bool) -> None:
        took = "in the cache" if cached else duration(manifest.seconds)
        self._note(f"{step.name}: {took}, {step.component}, {manifest.key[:12]}")
        self.listener.finished(step, manifest, cached=cached)

    def failed(self, step: Step, fault: Fault) -> None:
        self._note(f"{step.name}: failed: {fault.message}")
        self.listener.failed(step, fault)

    def tried(self, number: int, record: CandidateRecord, *, best: bool) -> None:
        self._note(trial_line(number, record, best=best))
        self.listener.tried(number, record, best=best)

    def _note(self, text: str) -> None:
        with suppress(OSError), open(self.file, "a", encoding="utf-8") as log:
            log.write(f"{now()} {text}\n")

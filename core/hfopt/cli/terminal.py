"""What a person sees of a run's progress, on stderr."""

from __future__ import annotations

import sys
import threading
from itertools import islice
from textwrap import indent
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as Bars
from rich.text import Text

from hfopt.api.protocol import Fault, Progress
from hfopt.api.record import CandidateRecord
from hfopt.api.search import points
from hfopt.base.text import duration, shown
from hfopt.cache.manifest import Manifest
from hfopt.config.resolve import Search
from hfopt.engine.ranking import front
from hfopt.engine.reporting import Reporter
from hfopt.engine.summary import headline, trial_line
from hfopt.planning.graph import Plan, Step

_SEARCH = "search"
"""What stands for a step in the line that tells of all trials."""
MOST_COUNTED = 10_000
"""Points of a space that are counted; nobody waits for more."""
_TOOK = len("in the cache")
_DAY = 24 * 60 * 60
_WIDE_ENOUGH = 72
"""Columns that a terminal needs for a bar beside the text."""


class Terminal(Reporter):
    """A line on stderr for each step that ends. Below, a terminal shows each running step; a file gets reminders.

    A context manager: nothing more is shown after its end.

    :param every: seconds between reminders of what is running, where there are no bars
    """

    def __init__(self, every: float = 30) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.live = sys.stderr.isatty() and not self.console.is_dumb_terminal
        self.bars = _bars(self.console)  # not started elsewhere: there it only keeps track of what is running
        self.shown: dict[Step | None, TaskID] = {}  # None: what goes on before any step runs
        self.told: set[tuple[Step | str, str]] = set()
        self.front: list[CandidateRecord] = []
        self.best = "none may be chosen yet"
        self.width = 0
        self.every = every
        self.ended = threading.Event()
        if self.live:
            self.bars.start()
        self._show(None, "reading the config and its inputs")

    def notice(self, text: str) -> None:
        self._line(f"note: {text}")

    def preparing(self, system: str, phase: str, done: int, total: int | None) -> None:
        if not self.live and (system, phase) not in self.told:
            self.told.add((system, phase))
            self._line(f"{system}: {phase}")
        self._show(None, f"{system}: {phase}", f"{done}/{total}" if total else "", completed=done, total=total)

    def begin(self, plan: Plan, cached: int, total: int) -> None:
        known = f", {cached} of them in the cache" if cached else ""
        if total:
            self._line(f"{total} steps{known}")
        self.width = max((len(step.name) for step in plan.steps()), default=0)
        if self.live:
            self.width = min(self.width, max(8, self.console.width - 2 * _TOOK))
        if (search := plan.config.search) is not None:
            trials = budget(search)
            most = trials and trials * len(plan.branches)
            self.search = self.bars.add_task(f"{_SEARCH:{self.width}}", total=most, step=_SEARCH, phase="", count="")
        if cached == total and search is None:
            self._forget(None)
        elif self.live:
            self._show(None, "starting a worker")
        else:
            threading.Thread(target=self._remind, name="reminders", daemon=True).start()

    def progress(self, step: Step, event: Progress) -> None:
        self._forget(None)
        if not self.live and event.phase.startswith("waiting") and (step, event.phase) not in self.told:
            self.told.add((step, event.phase))
            self._line(f"  {step.name:{self.width}}  {event.phase}")
        count = f"{event.done}/{event.total}" if event.total else ""
        self._show(step, event.phase, count, completed=event.done, total=event.total or None)

    def finished(self, step: Step, manifest: Manifest, *, cached: bool) -> None:
        self._forget(step)
        took = "in the cache" if cached else duration(manifest.seconds)
        kind = "" if step.component.startswith("hfopt:") else step.component.partition(":")[2]
        words = ": ".join(word for word in (kind, manifest.report.get("summary")) if word)
        self._line(f"  {step.name:{self.width}}  {took:>{_TOOK}}  {words}".rstrip())
        if "warning" in manifest.report:
            self.notice(f"{step.name}: {manifest.report['warning']}")
        if "snippet" in manifest.report and not cached:
            self._line(indent(manifest.report["snippet"], " " * 8))

    def failed(self, step: Step, fault: Fault) -> None:
        self._forget(step)
        self._line(f"  {step.name:{self.width}}  {'failed':>{_TOOK}}  {fault.message}")
        if fault.hint:
            self._line(f"  hint: {fault.hint}")

    def tried(self, number: int, record: CandidateRecord, *, best: bool) -> None:
        self._line(trial_line(number, record, best=best))
        self._forget(None)
        self.front = front([*self.front, record]) if record["status"] == "succeeded" else self.front
        self.best = f"best {headline(record)}" if best else self.best
        self.bars.advance(self.search)
        phase = f"{self.best}, {len(self.front)} on the Pareto front"
        (task,) = (each for each in self.bars.tasks if each.id == self.search)
        self.bars.update(self.search, phase=phase, count=f"{task.completed:.0f}/{task.total or '?'} trials")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars and end the reminders."""
        self.ended.set()
        if self.live:
            self.bars.stop()

    def _line(self, text: str) -> None:
        self.console.print(shown(text), markup=False, soft_wrap=True)

    def _show(self, step: Step | None, phase: str, count: str = "", **length: Any) -> None:
        if step not in self.shown:
            name = "" if step is None else f"{step.name:{self.width}}"
            self.shown[step] = self.bars.add_task(name, total=None, step=step, phase="", count="")
        self.bars.update(self.shown[step], phase=phase, count=count, **length)

    def _forget(self, step: Step | None) -> None:
        if (task := self.shown.pop(step, None)) is not None:
            self.bars.remove_task(task)

    def _remind(self) -> None:
        while not self.ended.wait(self.every):
            for task in self.bars.tasks:
                if task.fields["step"] is not None and (seconds := task.elapsed or 0) >= self.every:
                    self._line(f"  {task.description}  {_doing(task)}, {seconds:.0f} s so far")


class _Bar(ProgressColumn):
    """A bar, only if the total is known: one that moves back and forth says nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bar = BarColumn(bar_width=width)

    def render(self, task: Task) -> RenderableType:
        return self.bar.render(task) if task.fields["count"] else ""


class _Line(ProgressColumn):
    """Like the line of a finished step, followed by what it is doing; cut off at the terminal's edge."""

    def render(self, task: Task) -> Text:
        took = duration(task.elapsed or 0)
        return Text(f"  {task.description}  {took:>{_TOOK}}  {_doing(task)}", no_wrap=True, overflow="ellipsis")


def budget(search: Search) -> int | None:
    """How many trials there will be at most on an accelerator; None: that can't be told."""
    if search.section.execution_order != "joint":
        return search.section.max_iter
    every = sum(1 for _ in islice(points(search.space), MOST_COUNTED))
    limits = (every, search.section.max_iter, getattr(search.algorithm.config, "num_samples", None))
    return min(each for each in limits if each is not None)


def _doing(task: Task) -> str:
    """How far it is; of a search also how long it will take, if it goes on as it does."""
    if task.fields["step"] != _SEARCH:
        return f"{task.fields['phase']} {task.fields['count']}".rstrip()
    left = f"about {duration(task.time_remaining)} left" if task.completed and task.time_remaining else ""
    return ", ".join(each for each in (task.fields["count"], left, task.fields["phase"]) if each)


def _bars(console: Console) -> Bars:
    columns = [_Line(), _Bar(min(40, console.width // 4))] if console.width >= _WIDE_ENOUGH else [_Line()]
    return Bars(*columns, console=console, transient=True, speed_estimate_period=_DAY)

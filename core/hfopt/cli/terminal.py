"""What a person sees of a run: what goes on (stderr), and what it came to (stdout)."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from textwrap import indent

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as Bars
from rich.text import Text

from hfopt.api.protocol import Fault, Progress
from hfopt.base.text import duration
from hfopt.cache.store import Manifest
from hfopt.engine import summary
from hfopt.engine.record import RunRecord
from hfopt.engine.reporting import Reporter
from hfopt.planning.graph import Plan, Step

_TOOK = len("in the cache")
_WIDE_ENOUGH = 72
"""For a bar beside the words."""


@dataclass
class _Running:
    """A step that is being made."""

    event: Progress
    bar: TaskID | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def count(self) -> str:
        return f"{self.event.done}/{self.event.total}" if self.event.total else ""


class Terminal(Reporter):
    """A line on stderr for each step that ends; beneath, on a terminal, one for each that runs; elsewhere, reminders.

    A context manager: at its end nothing more is shown.

    :param every: seconds between reminders of what is running, where there are no bars
    """

    def __init__(self, every: float = 30) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.running: dict[Step, _Running] = {}
        self.lock = threading.Lock()
        self.width = 0
        self.every = every
        self.ended = threading.Event()
        self.bars = _bars(self.console) if sys.stderr.isatty() and not self.console.is_dumb_terminal else None
        self.idle: TaskID | None = None
        if self.bars is not None:
            self.bars.start()
            self.idle = self.bars.add_task("", phase="reading the config and its inputs", known=False)

    def notice(self, text: str) -> None:
        self._line(f"note: {text}")

    def begin(self, plan: Plan, cached: int, total: int) -> None:
        known = f", {cached} of them in the cache" if cached else ""
        self._line(f"{total} steps{known}")
        self.width = max(len(step.name) for step in plan.steps())
        if self.bars is not None:
            self.width = min(self.width, max(8, self.console.width - 2 * _TOOK))
        if cached == total:
            self._no_longer_idle()
        elif self.bars is not None and self.idle is not None:
            self.bars.update(self.idle, phase="starting a worker")
        else:
            threading.Thread(target=self._remind, name="reminders", daemon=True).start()

    def progress(self, step: Step, event: Progress) -> None:
        self._no_longer_idle()
        with self.lock:
            running = self.running.setdefault(step, _Running(event))
            waits = event.phase.startswith("waiting") and event.phase != running.event.phase
            running.event = event
            if self.bars is not None:
                if running.bar is None:
                    running.bar = self.bars.add_task(f"{step.name:{self.width}}", phase="", known=False)
                known = bool(event.total)
                phase = f"{event.phase} {running.count}"
                self.bars.update(running.bar, completed=event.done, total=event.total, phase=phase, known=known)
        if waits and self.bars is None:
            self._line(f"  {step.name:{self.width}}  {event.phase}")

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

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bars away, and remind of nothing more."""
        self.ended.set()
        if self.bars is not None:
            self.bars.stop()

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def _no_longer_idle(self) -> None:
        if self.bars is not None and self.idle is not None:
            self.bars.remove_task(self.idle)
            self.idle = None

    def _forget(self, step: Step) -> None:
        with self.lock:
            running = self.running.pop(step, None)
        if self.bars is not None and running is not None and running.bar is not None:
            self.bars.remove_task(running.bar)

    def _remind(self) -> None:
        while not self.ended.wait(self.every):
            with self.lock:
                lines = [
                    f"  {step.name:{self.width}}  {running.event.phase} {running.count}".rstrip()
                    + f", {time.monotonic() - running.since:.0f} s so far"
                    for step, running in self.running.items()
                    if time.monotonic() - running.since >= self.every
                ]
            for line in lines:
                self._line(line)


class _Bar(ProgressColumn):
    """A bar where the total is known: one that goes to and fro says nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bar = BarColumn(bar_width=width)

    def render(self, task: Task) -> RenderableType:
        return self.bar.render(task) if task.fields["known"] else ""


class _Line(ProgressColumn):
    """Like the line of a finished step, with what is going on at its end; cut off where the terminal ends."""

    def render(self, task: Task) -> Text:
        took = duration(task.elapsed or 0)
        return Text(f"  {task.description}  {took:>{_TOOK}}  {task.fields['phase']}", no_wrap=True, overflow="ellipsis")


def _bars(console: Console) -> Bars:
    columns = [_Line(), _Bar(min(40, console.width // 4))] if console.width >= _WIDE_ENOUGH else [_Line()]
    return Bars(*columns, console=console, transient=True)


def show_results(record: RunRecord) -> None:
    """What the run came to, on stdout."""
    width = None if sys.stdout.isatty() else summary.WIDTH
    summary.write(Console(highlight=False, width=width), record.data, record.folder)

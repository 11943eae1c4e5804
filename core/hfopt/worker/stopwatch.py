"""Timing two models fairly: one fresh process each, alternating blocks, the same rows, the same threads.

Passes that tune by timing (``measures = True``) use it through ``context.compare``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from hfopt.api.config import ReportProgress
from hfopt.api.model import Accelerator, ModelHandle
from hfopt.api.timing import CannotTime, Timed
from hfopt.base.errors import HfoptError, PreconditionFailed
from hfopt.base.processes import describe_exit, environment
from hfopt.discovery.plugins import Plugins
from hfopt.measuring import machine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]
    Blocks = NDArray[np.float64]

BLOCKS = 16
FEWEST_RUNS = 2 * BLOCKS
"""Of each model, however little time there is."""
FEWEST_BLOCKS = 4
"""Before a comparison may be given up."""
NOTABLE_SECONDS = 0.5
"""Below that, CPU time, which the kernel counts in hundredths of a second, says nothing."""
EXIT_SECONDS = 5.0
"""What a process may take to end by itself."""


@dataclass(frozen=True)
class Stopwatch:
    """How two models are timed against each other.

    :param plugin_files: ``-p`` files, loaded by the timing processes too
    """

    accelerator: Accelerator
    plugin_files: tuple[Path, ...]
    progress: ReportProgress

    def compare(
        self,
        first: Timed,
        second: Timed,
        feeds: Sequence[Feeds],
        *,
        warmup: int = 20,
        runs: int = 256,
        sleep: float = 0,
        seconds: float | None = None,
        hopeless: Callable[[Blocks], bool] | None = None,
        left: Callable[[float], None] | None = None,
    ) -> Blocks:
        """Time two models in alternating blocks, after a warm-up of both.

        :param feeds: run in turn, one call each
        :param warmup: runs of each model that are not counted
        :param runs: timed runs of each model; with `seconds`, the most
        :param sleep: seconds of rest before each timed run
        :param seconds: about what all timed runs may take, and the most that the warm-up of a model may take; there
            are never fewer than 32 timed runs. None: as many runs as are asked for
        :param hopeless: asked after every block from the fourth on, with what `compare` would return; if true, timing
            ends there
        :param left: told at the end how many CPUs other processes left to the models, on average; not told where that
            is not known, or the timed runs take less than half a second
        :return: milliseconds, [2, blocks, runs in a block]
        :raises CannotTime: a model can't be opened or run, or its process dies
        :raises PreconditionFailed: there are no feeds
        """
        import numpy as np

        if not feeds:
            raise PreconditionFailed("the data has no rows to time models on")
        with ExitStack() as stack:
            pair = [
                stack.enter_context(_Child(self, timed, feeds, position))
                for position, timed in enumerate((first, second))
            ]
            for child in pair:
                child.wait_until_open()
            warm = [child.warm_up(warmup, seconds) for child in pair]
            if seconds is not None and warmup:
                once = sum(float(np.median(spent[len(spent) // 2 :])) for spent in warm) / 1_000
                wanted = int(seconds / max(once, 1e-6)) // BLOCKS * BLOCKS
                runs = max(min(FEWEST_RUNS, runs), min(runs, wanted))
            blocks, size = split(runs)
            started, used = time.monotonic(), _used_by_others(pair)
            timings: list[list[list[float]]] = [[], []]
            for block in range(blocks):
                for child, collected in zip(pair, timings, strict=True):
                    collected.append(child.time(block * size, size, sleep))
                self.progress("timing", (block + 1) * size, runs)
                if hopeless is not None and block + 1 >= FEWEST_BLOCKS and hopeless(np.array(timings)):
                    break
            seconds_spent, used_since = time.monotonic() - started, _used_by_others(pair)
            if left is not None and used is not None and used_since is not None and seconds_spent >= NOTABLE_SECONDS:
                left(max(0.0, machine.affinity() - (used_since - used) / seconds_spent))  # as ticks count, below 0
        return np.array(timings)


def _used_by_others(pair: Sequence[_Child]) -> float | None:
    return machine.used_by_others([child.process.pid for child in pair])


def split(runs: int) -> tuple[int, int]:
    """Blocks and runs in a block, exactly `runs` in all: at most 16 blocks, or of one run each where that can't be."""
    blocks = max(count for count in range(1, BLOCKS + 1) if runs % count == 0)
    return (blocks, runs // blocks) if blocks >= 4 else (runs, 1)


class _Child:
    """A fresh process that has one model open and times it on request.

    What it prints is kept from the terminal, and shown on stderr if it fails.
    """

    def __init__(self, stopwatch: Stopwatch, timed: Timed, feeds: Sequence[Feeds], position: int) -> None:
        self.position = position
        self.name = timed.name or f"the {timed.model.type}"
        incoming, outgoing = os.pipe(), os.pipe()
        self.requests = Connection(incoming[1], readable=False)
        self.answers = Connection(outgoing[0], writable=False)
        self.printed = TemporaryFile()  # noqa: SIM115 - closed with the process
        theirs = (incoming[0], outgoing[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from hfopt.worker.stopwatch import serve; serve{theirs}"],
            env={**environment(offline=True), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=self.printed,
            stderr=self.printed,
            pass_fds=theirs,
        )
        for descriptor in theirs:
            os.close(descriptor)
        self._send(
            timed.model.model_dump_json(),
            dict(timed.settings),
            stopwatch.accelerator.model_dump_json(),
            stopwatch.plugin_files,
            list(feeds),
        )

    def __enter__(self) -> _Child:
        return self

    def wait_until_open(self) -> None:
        """Return when the model is open and has its feeds."""
        self._receive()

    def warm_up(self, count: int, seconds: float | None) -> list[float]:
        """Milliseconds of `count` runs, or of as many as fit into the time."""
        spent: list[float] = []
        while len(spent) < count and (seconds is None or sum(spent) < 1_000 * seconds):
            spent += self.time(len(spent), 1, 0)
        return spent

    def time(self, start: int, count: int, sleep: float) -> list[float]:
        """Milliseconds of `count` runs, beginning at row `start`."""
        self._send(start, count, sleep)
        return self._receive()

    def _send(self, *message: Any) -> None:
        with suppress(OSError):  # it has died; receiving says how
            self.requests.send(message)

    def _receive(self) -> list[float]:
        try:
            answer = self.answers.recv()
        except (EOFError, OSError):
            self._show_printed()
            message = f"the process that timed {self.name} {describe_exit(self.process.wait())}"
            raise CannotTime(message, position=self.position) from None
        if isinstance(answer, _Failure):
            self._show_printed()
            message = f"{self.name} can't be timed: {answer.message}"
            raise CannotTime(message, hint=answer.hint, position=self.position)
        return list(answer)

    def _show_printed(self) -> None:
        self.printed.seek(0)
        sys.stderr.write(self.printed.read().decode(errors="replace"))

    def __exit__(self, failed: object, *_: object) -> None:
        self.requests.close()
        if not failed:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_SECONDS)
        self.process.kill()
        self.process.wait()
        self.answers.close()
        self.printed.close()


@dataclass(frozen=True)
class _Failure:
    """What a timing process answers if it can't go on."""

    message: str
    hint: str | None = None


def serve(incoming: int, outgoing: int) -> None:
    """In a timing process: open the model, then answer requests until the parent ends, or closes the pipe.

    :param incoming: descriptor to read requests from
    :param outgoing: descriptor to write answers to
    """
    requests, answers = Connection(incoming, writable=False), Connection(outgoing, readable=False)
    with suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            _serve(requests, answers)
        except HfoptError as error:
            answers.send(_Failure(error.message, error.hint))
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything; it becomes the step's reason
            answers.send(_Failure(f"{type(error).__name__}: {error}"))


def _serve(requests: Connection, answers: Connection) -> None:
    from hfopt.worker.context import open_model

    handle, settings, accelerator, plugin_files, feeds = requests.recv()
    model, device = ModelHandle.model_validate_json(handle), Accelerator.model_validate_json(accelerator)
    with open_model(Plugins.discover(plugin_files), model, device, settings) as session:
        calls = [session.bind(batch) for batch in feeds]
        answers.send([])
        while (request := _next(requests)) is not None:
            start, count, sleep = request
            answers.send([_run(calls[(start + run) % len(calls)], sleep) for run in range(count)])


def _next(requests: Connection) -> tuple[int, int, float] | None:
    """The next request; None at the end of the pipe."""
    try:
        request: tuple[int, int, float] = requests.recv()
    except EOFError:
        return None
    return request


def _run(call: Callable[[], None], sleep: float) -> float:
    if sleep:
        time.sleep(sleep)
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6

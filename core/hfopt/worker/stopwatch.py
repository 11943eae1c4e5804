"""Timing two models fairly: one fresh process each, alternating blocks, the same rows, the same threads.

A process runs only while it is asked for something: runtimes let their threads spin for a while after the last run,
which made the other model more than twice as slow.

Passes that tune by timing (``measures = True``) use it through ``context.compare``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from hfopt.api.arrays import Feeds, Floats
from hfopt.api.config import ReportProgress
from hfopt.api.model import Accelerator
from hfopt.api.timing import CannotTime, Timed
from hfopt.base.errors import HfoptError, PreconditionFailed
from hfopt.base.processes import describe_exit
from hfopt.measuring import machine
from hfopt.worker import forks

BLOCKS = 16
FEWEST_RUNS = 2 * BLOCKS
"""Of each model, however little time there is."""
FEWEST_BLOCKS = 4
"""Before a comparison may be given up."""
NOTABLE_SECONDS = 0.5
"""Below that, CPU time, which the kernel counts in hundredths of a second, says nothing."""


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
        most_blocks: int = BLOCKS,
        seconds: float | None = None,
        enough: Callable[[Floats], bool] | None = None,
        left: Callable[[float], None] | None = None,
    ) -> Floats:
        """Time two models in alternating blocks (`hfopt.api.blocks`), after a warm-up of both.

        :param feeds: run in turn, one call each
        :param warmup: runs of each model that are not counted
        :param runs: timed runs of each model; with `seconds`, the most
        :param sleep: seconds of rest before each timed run
        :param seconds: about what all timed runs may take, and the most that the warm-up of a model may take; there
            are never fewer than 32 timed runs. None: as many runs as are asked for
        :param most_blocks: of each model
        :param enough: asked after every round from the second on, with what `compare` would return; if true, timing
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
            pair = [stack.enter_context(self._child(*each, feeds)) for each in enumerate((first, second))]
            for child in pair:
                child.receive()  # when its model is open
            warm = [child.warm_up(warmup, seconds) for child in pair]
            if seconds is not None and warmup:
                once = sum(float(np.median(spent[len(spent) // 2 :])) for spent in warm) / 1_000
                wanted = int(seconds / max(once, 1e-6)) // BLOCKS * BLOCKS
                runs = max(min(FEWEST_RUNS, runs), min(runs, wanted))
            blocks, size = split(runs, most_blocks)
            pids = [child.pid for child in pair]
            started, used = time.monotonic(), machine.used_by_others(pids)
            timings = []
            for block in range(blocks):
                turn = {
                    child.position: child.time(block * size, size, sleep) for child in pair[:: -1 if block % 2 else 1]
                }
                timings.append([turn[0], turn[1]])
                self.progress("timing", (block + 1) * size, runs)
                round_ends = block % 2 == 1 and block + 1 >= FEWEST_BLOCKS
                if enough is not None and round_ends and enough(np.stack(timings, axis=1)):
                    break
            seconds_spent, used_since = time.monotonic() - started, machine.used_by_others(pids)
            if left is not None and used is not None and used_since is not None and seconds_spent >= NOTABLE_SECONDS:
                cpus = len(machine.allowed_cpus()) - (used_since - used) / seconds_spent
                left(max(0.0, cpus))  # as ticks count, it may be below 0
        return np.stack(timings, axis=1)

    @contextmanager
    def _child(self, position: int, timed: Timed, feeds: Sequence[Feeds]) -> Iterator[_Child]:
        """A fresh process that opens one model and then times it on request."""
        name = timed.name or f"the {timed.model.type}"
        pipe, theirs = Pipe()
        with pipe, TemporaryFile() as printed:
            with theirs:
                fork, pid = forks.start(timed.model.type, self.plugin_files, theirs.fileno(), printed.fileno())
            child = _Child(name, position, fork, pid, pipe, printed)
            try:
                child.send(timed, self.accelerator, list(feeds))
                yield child
                child.send()
                pipe.poll(forks.EXIT_SECONDS)  # it has ended: then the other end of the pipe is closed
            finally:
                fork.end(pid)


def split(runs: int, most: int = BLOCKS) -> tuple[int, int]:
    """Blocks and runs in a block, exactly `runs` in all: at most `most` blocks, or of one run each if need be."""
    blocks = max(count for count in range(1, most + 1) if runs % count == 0)
    return (blocks, runs // blocks) if blocks >= 4 else (runs, 1)


@dataclass(frozen=True)
class _Child:
    """A process that times a model.

    :param name: the model's, for messages
    :param printed: what it prints: kept from the terminal, and shown on stderr if it fails
    """

    name: str
    position: int
    fork: forks.Forks
    pid: int
    pipe: Connection
    printed: IO[bytes]

    def warm_up(self, count: int, seconds: float | None) -> list[float]:
        """Milliseconds of `count` runs, or of as many as fit into the time."""
        spent: list[float] = []
        while len(spent) < count and (seconds is None or sum(spent) < 1_000 * seconds):
            spent += self.time(len(spent), 1, 0)
        return spent

    def time(self, start: int, count: int, sleep: float) -> list[float]:
        """Milliseconds of `count` runs, beginning at row `start`."""
        self.send(start, count, sleep)
        return self.receive()

    def send(self, *message: Any) -> None:
        """Let the process go on, with a request."""
        with suppress(OSError):  # it has died; receiving says how
            os.kill(self.pid, signal.SIGCONT)
            self.pipe.send(message)

    def receive(self) -> list[float]:
        """Wait for the answer, after which the process, with all its threads, stands still."""
        hint = None
        try:
            answer: list[float] | HfoptError = self.pipe.recv()
            os.kill(self.pid, signal.SIGSTOP)
            if not isinstance(answer, HfoptError):
                return answer
            message, hint = f"{self.name} can't be timed: {answer.message}", answer.hint
        except (EOFError, OSError):
            message = f"the process that timed {self.name} {describe_exit(self.fork.end(self.pid))}"
        self.printed.seek(0)
        sys.stderr.write(self.printed.read().decode(errors="replace"))
        raise CannotTime(message, hint=hint, position=self.position)

"""Timing two models fairly: one fresh process each, alternating blocks, the same rows, the same threads.

Passes that tune by timing (``measures = True``) use it through ``context.compare``.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt.api.config import ReportProgress
from hfopt.api.model import Accelerator, ModelHandle
from hfopt.errors import HfoptError, StepFailed
from hfopt.plugins import Plugins
from hfopt.signals import describe_exit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

TIMED_ROWS = 64
"""How many rows are timed in turn: spread evenly over the data, each at its own length."""
BLOCKS = 16


@dataclass(frozen=True)
class Timed:
    """A model and how to run it.

    :param settings: as `ModelLoader.open` takes them, ``threads`` among them
    """

    model: ModelHandle
    settings: Mapping[str, Any] = field(default_factory=dict)


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
    ) -> NDArray[np.float64]:
        """Time two models in alternating blocks, after a warm-up of both.

        :param feeds: run in turn, one call each
        :param warmup: runs of each model that are not counted
        :param runs: timed runs of each model
        :param sleep: seconds of rest before each timed run
        :return: milliseconds, [2, blocks, runs in a block]
        :raises StepFailed: a model can't be opened or run, or its process dies
        """
        import numpy as np

        blocks, size = split(runs)
        with ExitStack() as stack:
            pair = [stack.enter_context(_Child(self, timed, feeds)) for timed in (first, second)]
            for child in pair:
                child.time(0, warmup, 0)
            timings: list[list[list[float]]] = [[], []]
            for block in range(blocks):
                for child, collected in zip(pair, timings, strict=True):
                    collected.append(child.time(block * size, size, sleep))
                self.progress("timing", (block + 1) * size, runs)
        return np.array(timings)


def split(runs: int) -> tuple[int, int]:
    """Blocks and runs in a block, exactly `runs` in all: at most 16 blocks, or of one run each where that can't be."""
    blocks = max(count for count in range(1, BLOCKS + 1) if runs % count == 0)
    return (blocks, runs // blocks) if blocks >= 4 else (runs, 1)


def spread(total: int, wanted: int) -> list[int]:
    """At most `wanted` positions, evenly over `total`."""
    count = min(total, wanted)
    return [position * total // count for position in range(count)]


class _Child:
    """A fresh process that has one model open and times it on request."""

    def __init__(self, stopwatch: Stopwatch, timed: Timed, feeds: Sequence[Feeds]) -> None:
        self.name = timed.model.type
        spawn = multiprocessing.get_context("spawn")
        requests, self.requests = spawn.Pipe(duplex=False)
        self.answers, answers = spawn.Pipe(duplex=False)
        arguments = (
            timed.model.model_dump_json(),
            dict(timed.settings),
            stopwatch.accelerator,
            stopwatch.plugin_files,
            list(feeds),
            requests,
            answers,
        )
        self.process = spawn.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        requests.close()
        answers.close()

    def __enter__(self) -> _Child:
        self._receive()
        return self

    def time(self, start: int, count: int, sleep: float) -> list[float]:
        """Milliseconds of `count` runs, beginning at row `start`."""
        self.requests.send((start, count, sleep))
        return self._receive()

    def _receive(self) -> list[float]:
        try:
            answer = self.answers.recv()
        except EOFError:
            self.process.join()
            raise StepFailed(f"the process that timed the {self.name} {describe_exit(self.process.exitcode)}") from None
        if isinstance(answer, str):
            raise StepFailed(f"the {self.name} can't be timed: {answer}")
        return list(answer)

    def __exit__(self, *_: object) -> None:
        self.requests.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(
    handle: str,
    settings: Mapping[str, Any],
    accelerator: Accelerator,
    plugin_files: Sequence[Path],
    feeds: Sequence[Feeds],
    requests: Connection,
    answers: Connection,
) -> None:
    """Open the model, then answer requests until the pipe is closed: by the parent, or by its death."""
    from hfopt.steps.outcome import open_model

    try:
        model = ModelHandle.model_validate_json(handle)
        with open_model(Plugins.discover(plugin_files), model, accelerator, settings) as session:
            calls = [session.bind(batch) for batch in feeds]
            answers.send([])
            while True:
                start, count, sleep = requests.recv()
                answers.send([_run(calls[(start + run) % len(calls)], sleep) for run in range(count)])
    except (EOFError, KeyboardInterrupt):
        return
    except HfoptError as error:
        answers.send(str(error))
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything; it becomes the step's reason
        answers.send(f"{type(error).__name__}: {error}")


def _run(call: Callable[[], None], sleep: float) -> float:
    if sleep:
        time.sleep(sleep)
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6

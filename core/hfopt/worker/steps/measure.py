"""Step ``measure``: a candidate timed against the input model, on the same rows, in alternating blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hfopt.api.protocol import StepRequest
from hfopt.api.timing import FIGURES, TIMED_ROWS, MeasureConfig, Timed, TimedFigure, spread
from hfopt.worker.context import Outcome, StepContext, load_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


LEAST_LEFT = 0.85
"""What other processes must leave of a CPU for each thread."""


def run(step: StepContext) -> Outcome:
    config = load_options(MeasureConfig, step.request.config)
    data = step.data("data")
    batches = list(data.batches(spread(len(data), TIMED_ROWS)))
    threads = {"threads": step.request.threads}
    left: list[float] = []
    blocks = step.stopwatch().compare(
        Timed(step.model("baseline"), threads, "the input model"),
        Timed(step.model("candidate"), threads, "the candidate"),
        [batch.feeds for batch in batches],
        warmup=config.timing.warmup_num,
        runs=config.timing.repeat_test_num,
        sleep=config.timing.sleep_num,
        left=left.append,
    )
    rows = [len(batch.rows) for batch in batches]
    pairs = {key: figure(blocks, rows, wanted) for key, wanted in config.figures.items()}
    return Outcome(
        metrics={key: candidate for key, (_, candidate) in pairs.items()},
        report={
            "baseline": {key: baseline for key, (baseline, _) in pairs.items()},
            "threads": step.request.threads,
            **machine_load(left, step.request),
        },
    )


def machine_load(left: list[float], request: StepRequest) -> dict[str, Any]:
    """What the report says of other processes on the machine."""
    if not left:
        return {}
    report: dict[str, Any] = {"cpus_left": round(left[0], 2)}
    if left[0] < LEAST_LEFT * request.threads:
        report["warning"] = (
            f"other processes left {left[0]:.1f} CPUs to {request.threads} threads: the figures are not those"
            f" of an idle machine; after hfopt cache rm '{request.name}' the next run measures again"
        )
    return report


def figure(blocks: Floats, rows: list[int], wanted: TimedFigure) -> tuple[dict[str, Any], dict[str, Any]]:
    """One sub type of the baseline and of the candidate, as run.json has them.

    :param blocks: milliseconds, [2, blocks, runs in a block]
    :param rows: rows in each batch; run i took batch i modulo their number
    """
    import numpy as np

    from hfopt.api import statistics

    values = blocks
    if wanted.kind == "throughput":
        values = 1_000 * np.resize(rows, blocks[0].size).reshape(blocks[0].shape) / blocks
    reduce = reduction(wanted)
    resampled = statistics.block_bootstrap(values, reduce)
    exact = [float(reduce(model.reshape(-1))) for model in values]

    def own(model: int) -> dict[str, Any]:
        return {
            **statistics.described(statistics.percentile_interval(exact[model], resampled[model])),
            "n": int(blocks[model].size),
            "unit": "ms" if wanted.kind == "latency" else "rows/s",
            "higher_is_better": wanted.kind == "throughput",
            "difference": None,
        }

    difference = statistics.percentile_interval(exact[1] - exact[0], resampled[1] - resampled[0])
    return own(0), {**own(1), "difference": statistics.described(difference)}


def reduction(wanted: TimedFigure) -> Callable[[Floats], Floats]:
    """How runs become one figure, over the last axis. The average of rates is harmonic: all rows over all time."""
    import numpy as np

    kind = FIGURES[wanted.name]
    if isinstance(kind, float):
        return partial(np.quantile, q=kind, axis=-1)
    if kind == "mean" and wanted.kind == "throughput":
        return lambda rates: 1 / np.mean(1 / rates, axis=-1)
    return partial(getattr(np, kind), axis=-1)

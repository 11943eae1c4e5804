"""Step ``measure``: a candidate timed against the input model, on the same rows, in alternating blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

from hfopt.api.protocol import StepRequest
from hfopt.api.timing import DECODE, ROUND_RUNS, TIMED_ROWS, MeasureConfig, Timed, mixed, spread
from hfopt.measuring.machine import is_busy
from hfopt.worker.context import Outcome, StepContext, load_options

BLOCKS = "blocks.npy"
"""Raw timings: milliseconds, [2, blocks, runs in a block], the input model's first."""


def run(step: StepContext) -> Outcome:
    import numpy as np

    from hfopt.api.blocks import FINAL_ROUNDS, MOST_ROUNDS, settled
    from hfopt.measuring.figures import timed

    config = load_options(MeasureConfig, step.request.config)
    data = step.data("data")
    batches = list(data.batches(spread(len(data), TIMED_ROWS)))
    batches = [batches[at] for at in mixed([max(each.size for each in batch.feeds.values()) for batch in batches])]
    models = [step.model("baseline"), step.model("candidate")]
    told = [{"threads": step.request.threads, **config.settings.get(model.type, {})} for model in models]
    next_token = any(each.name == DECODE for each in config.figures.values())
    left: list[float] = []
    counts: dict[str, Any] = {"runs": config.timing.repeat_test_num}
    if config.timing.repeat_test_num is None:
        most = FINAL_ROUNDS if config.decides else MOST_ROUNDS
        counts = {"runs": most * ROUND_RUNS, "most_blocks": 2 * most, "enough": partial(settled, most=most)}
    blocks = step.stopwatch().compare(
        Timed(models[0], told[0], "the input model", next_token),
        Timed(models[1], told[1], "the candidate", next_token),
        [batch.feeds for batch in batches],
        **counts,
        warmup=config.timing.warmup_num,
        sleep=config.timing.sleep_num,
        left=left.append,
    )
    np.save(step.folder / BLOCKS, blocks)
    rows = [len(batch.rows) for batch in batches]
    load = machine_load(left, step.request)
    marked = {"cpus_left": load["cpus_left"]} if "warning" in load else {}
    pairs = {
        key: [each.model_copy(update=marked) for each in timed(blocks, rows, wanted)]
        for key, wanted in config.figures.items()
    }
    return Outcome(
        metrics={key: candidate for key, (_, candidate) in pairs.items()},
        report={
            "baseline": {key: baseline.model_dump() for key, (baseline, _) in pairs.items()},
            "threads": step.request.threads,
            **load,
        },
    )


def machine_load(left: Sequence[float], request: StepRequest) -> dict[str, Any]:
    """What the report says of other processes on the machine.

    :param left: how many CPUs they left to each comparison of two models, where that is known
    """
    if not left:
        return {}
    cpus = round(fmean(left), 2)
    if not is_busy(cpus, request.threads):
        return {"cpus_left": cpus}
    warning = (
        f"other processes left {cpus:.1f} CPUs to {request.threads} threads: the figures are not those"
        " of an idle machine; the next run measures again if it is idle then"
    )
    return {"cpus_left": cpus, "warning": warning}

"""Step ``measure``: a candidate timed against the input model, on the same rows, in alternating blocks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hfopt.measuring import TIMED_ROWS, Timed, spread
from hfopt.steps.latency import FIGURES, MeasureConfig
from hfopt.steps.outcome import Bench, Outcome, revive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def run(bench: Bench) -> Outcome:
    config = revive(MeasureConfig, bench.request.config)
    data = bench.data("data")
    feeds = [batch.feeds for batch in data.batches(spread(len(data), TIMED_ROWS))]
    threads = {"threads": bench.request.threads}
    blocks = bench.stopwatch().compare(
        Timed(bench.model("baseline"), threads),
        Timed(bench.model("candidate"), threads),
        feeds,
        warmup=config.timing.warmup_num,
        runs=config.timing.repeat_test_num,
        sleep=config.timing.sleep_num,
    )
    pairs = {key: figure(blocks, name) for key, name in config.figures.items()}
    return Outcome(
        metrics={key: candidate for key, (_, candidate) in pairs.items()},
        report={"baseline": {key: baseline for key, (baseline, _) in pairs.items()}, "threads": bench.request.threads},
    )


def figure(blocks: NDArray[np.float64], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """One sub type of the baseline and of the candidate, as run.json has them.

    :param blocks: milliseconds, [2, blocks, runs in a block]
    """
    import numpy as np

    from hfopt.statistics import block_bootstrap, percentile_interval

    kind = FIGURES[name]
    reduce = partial(np.quantile, q=kind, axis=-1) if isinstance(kind, float) else partial(getattr(np, kind), axis=-1)
    resampled = block_bootstrap(blocks, reduce)
    exact = [float(reduce(model.reshape(-1))) for model in blocks]
    difference = percentile_interval(exact[1] - exact[0], resampled[1] - resampled[0])

    def described(model: int, difference: dict[str, float] | None) -> dict[str, Any]:
        return {
            **percentile_interval(exact[model], resampled[model])._asdict(),
            "n": int(blocks[model].size),
            "unit": "ms",
            "higher_is_better": False,
            "difference": difference,
        }

    return described(0, None), described(1, difference._asdict())

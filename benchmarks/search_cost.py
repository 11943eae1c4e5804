"""What a search itself costs: trials of a pass that does nothing, over a model of a few bytes (`make bench`).

Each search is a host process of its own, with a worker, and is run a second time over its own cache. What counts is the
host's CPU time of a trial, and, on a quiet machine, what one more trial takes by the clock, its worker's part included:
the difference of two searches, so that what starts and ends them is no part of it.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import hfopt
from hfopt.engine.reporting import Reporter

TOY = Path(__file__).parents[1] / "tests" / "core" / "toy.py"
TRIALS = (100, 1_000)
MILLISECONDS, MEBIBYTES = 10, 40
"""A trial, of the host's CPU and by the clock; by how much memory may grow from the smallest search to the largest."""


def make_config(folder: Path, trials: int) -> dict:
    """A search over one option of a pass that changes a setting."""
    model = folder / "line.json"
    model.write_text('{"slope": 0.5}')
    delays = [number / 1e9 for number in range(trials)]
    return {
        "input_model": {"type": "Line", "config": {"model_path": str(model)}},
        "evaluators": {"e": {"metrics": [{"name": "size", "type": "size"}]}},
        "passes": {"retune": {"type": "Retune", "config": {"delay": {"search": delays}}}},
        "engine": {
            "evaluator": "e",
            "search_strategy": {"search_algorithm": "exhaustive"},
            "cache_dir": str(folder / "cache"),
            "output_dir": str(folder / "out"),
        },
    }


def measure(trials: int) -> tuple[int, list[tuple[float, float, int]]]:
    """Search twice in this process.

    :return: the trials; for each search seconds by the clock, CPU seconds of this process, its peak memory in bytes
    """
    logging.getLogger("hfopt").setLevel(logging.CRITICAL)
    found = []
    with tempfile.TemporaryDirectory() as name:
        config = make_config(Path(name), trials)
        for _ in range(2):
            started, used = time.perf_counter(), time.process_time()
            hfopt.run(config, plugin_files=[TOY], reporter=Reporter())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            found.append((time.perf_counter() - started, time.process_time() - used, peak))
        tried = len(json.loads(Path(name, "out", "run.json").read_text())["results"][0]["candidates"])
    return tried, found


def main() -> int:
    """Print a row per search.

    :return: 1 if a limit is exceeded
    """
    within, peaks, clock = True, [], []
    print(f"{'trials':>6} {'':12} {'ms/trial':>8} {'of it host CPU':>14} {'MiB':>6}   limit {MILLISECONDS} ms CPU")
    for trials in TRIALS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            tried, found = fresh.submit(measure, trials).result()
        for name, (seconds, used, peak) in zip(("", "from cache"), found, strict=True):
            kept = trials != TRIALS[-1] or 1000 * used / tried <= MILLISECONDS
            within &= kept and tried == trials
            numbers = f"{1000 * seconds / tried:8.1f} {1000 * used / tried:14.1f} {peak / 2**20:6.1f}"
            print(f"{tried:6} {name:12} {numbers}   {'ok' if kept else 'EXCEEDED'}", flush=True)
        peaks.append(peak)
        clock.append(found[0][0])
    further = 1000 * (clock[-1] - clock[0]) / (TRIALS[-1] - TRIALS[0])
    slow = further > MILLISECONDS
    print(f"one more trial takes {further:.1f} ms by the clock, at most {MILLISECONDS}: {'EXCEEDED' if slow else 'ok'}")
    grown = (peaks[-1] - peaks[0]) / 2**20
    print(f"memory grew by {grown:.1f} MiB, at most {MEBIBYTES}: {'ok' if grown <= MEBIBYTES else 'EXCEEDED'}")
    return 0 if within and not slow and grown <= MEBIBYTES else 1


if __name__ == "__main__":
    sys.exit(main())

"""How near a search comes to the best of its space, and what part of the rows it takes.

The config's search, then an exhaustive one of the same space in the same cache, each a `hfopt run`. The best models of
both, and the search's and PyTorch's, are timed against each other as a run times them: reviews of their own lengths, in
rounds of 16 runs, two threads. That is done in eight pairs of fresh processes, whose spread makes the intervals: one
process of a model may be a few per cent faster than another. It takes 20 minutes, so `make bench` leaves it out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

import hfopt
from hfopt import Accelerator, ModelHandle
from hfopt.api.blocks import MOST_ROUNDS, ratio
from hfopt.api.statistics import Interval
from hfopt.api.timing import ROUND_RUNS, TIMED_ROWS, Timed, mixed, spread
from hfopt.cache.store import ArtifactStore
from hfopt.config.document import read
from hfopt.testing import Stopwatch
from hfopt_onnx_model.graph import handle_of

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "build" / "quickstart"
RATIO, SHARE, SPEED_UP = 1.05, 1 / 3, 5
"""The slowest that the search's best may be; the largest part of the rows that it may take; the least that it may be
faster than PyTorch."""
PAIRS, TWO_THREADS = 8, {"threads": 2}
ACCURACY = "accuracy-accuracy"


def searched(config: dict[str, Any], folder: Path, strategy: Any) -> dict[str, Any]:
    """What one search has found.

    :return: its entry in run.json
    """
    folders = {"cache_dir": str(QUICKSTART / "cache"), "output_dir": str(folder)}
    engine = {**config["engine"], **folders, "search_strategy": strategy}
    return dict(hfopt.run({**config, "engine": engine}).results[0])


def rows_of(result: dict[str, Any]) -> int:
    """On how many rows predictions were made, all trials together."""
    judged = [each["metrics"][ACCURACY]["n"] for each in result["candidates"] if ACCURACY in each["metrics"]]
    dropped = [each["error"]["message"] for each in result["candidates"] if each["status"] == "dropped"]
    return sum(judged) + sum(int(message.split(" of them show")[0].split()[-1].replace(",", "")) for message in dropped)


def best_of(result: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in result["candidates"] if each["id"] == result["best"])


def input_model(result: dict[str, Any]) -> Timed:
    """The model that all candidates of a search come from, in PyTorch."""
    key = next(each["key"] for each in best_of(result)["steps"] if each["name"] == "input_model")
    cache = QUICKSTART / "cache"
    manifest = json.loads((ArtifactStore(cache).folder(key) / "manifest.json").read_text())
    inputs = {manifest["config"]["model_path"]: str(QUICKSTART / "model")}
    return Timed(ArtifactStore(cache, inputs).read_model(key), TWO_THREADS)


def timed(folder: Path) -> Timed:
    """The best model of a run, as it is to be run."""
    described = json.loads((folder / "best" / "model.json").read_text())
    plain = ModelHandle(type="PyTorchModel", path=folder, files=())
    model = handle_of(folder / "best" / "model.onnx", like=plain)
    return Timed(model.with_(inference_settings=described["model"]["inference_settings"]), TWO_THREADS)


def reviews() -> Iterator[dict[str, Any]]:
    """Reviews of all lengths, as the models take them."""
    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART / "model")
    with (QUICKSTART / "held_out.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    encoded = [tokenizer(texts[row], return_tensors="np") for row in spread(len(texts), TIMED_ROWS)]
    for row in mixed([each["input_ids"].size for each in encoded]):
        yield {name: array.astype(np.int64) for name, array in encoded[row].items()}


def compared(first: Timed, second: Timed, feeds: list[dict[str, Any]], figure: Callable[..., Any]) -> Interval:
    """How many times as long the first model takes.

    :param figure: of a process's runs
    """
    compare = Stopwatch(Accelerator(), (), lambda *_: None).compare
    runs, blocks = MOST_ROUNDS * ROUND_RUNS, 2 * MOST_ROUNDS
    pairs = [compare(first, second, feeds, runs=runs, most_blocks=blocks) for _ in range(PAIRS)]
    interval = ratio(*np.stack([figure(pair, axis=(1, 2)) for pair in pairs], axis=1))
    assert interval is not None, "there are more than four pairs"
    return interval


def main() -> int:
    """Print what the search found, and what there was.

    :return: 1 if the best that was found misses a goal or is too slow, or took too many rows
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=ROOT / "examples" / "reviews" / "search.json")
    file = parser.parse_args().config.absolute()
    document = read(file).value
    with tempfile.TemporaryDirectory() as name, chdir(file.parent):
        folder = Path(name)
        found = searched(document, folder / "search", document["engine"]["search_strategy"])
        every = searched(document, folder / "exhaustive", {"drop_early": False})
        for label, result in (("search", found), ("exhaustive", every)):
            best = best_of(result)
            print(f"{label}: {len(result['candidates'])} points, {rows_of(result):,} rows; best {best['choices']}")
        feeds = list(reviews())
        interval = compared(timed(folder / "search"), timed(folder / "exhaustive"), feeds, np.median)
        faster = compared(input_model(found), timed(folder / "search"), feeds, np.mean)
    share, best = rows_of(found) / rows_of(every), best_of(found)
    print(f"latency of the search's best to the best: {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    print(f"rows: {share:.2f} of the exhaustive search's, at most {SHARE:.2f}")
    print(f"PyTorch takes {faster.value:.2f} times as long [{faster.low:.2f}, {faster.high:.2f}], at least {SPEED_UP}")
    print(f"size: {best['size_bytes'] / found['input_model']['size_bytes']:.3f} of PyTorch's")
    print(f"accuracy: {100 * best['metrics'][ACCURACY]['difference']['value']:+.2f} points")
    print(f"goals, of size and accuracy: {'met' if best['goals_met'] else 'MISSED'}")
    near = interval.low <= RATIO and share <= SHARE
    return 0 if near and faster.value >= SPEED_UP and best["goals_met"] else 1


if __name__ == "__main__":
    sys.exit(main())

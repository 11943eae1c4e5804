"""Seconds to evaluate the quickstart's input model, and to do so again with another metric (`make bench`).

Rows of equal length share a batch where no batch_size is written. It is compared with batch_size 1, on the same data
and in the same sitting: rounds of both, in alternating order, each a whole `hfopt run` with a cache of its own; medians
count. Then f1 is added to the metrics of a run that is finished: nothing may run a model.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
RATIO, RESCORE_SECONDS = 0.5, 3.0
QUICKSTART = Path(__file__).parents[1] / "build" / "quickstart"
SIZES = {"batch_size 1": {"batch_size": 1}, "none written": {}}
EVALUATION = "predict input_model"


def make_config(folder: Path, batching: dict, metrics: list[str]) -> dict:
    """A run that evaluates the input model, and one pass because there must be one."""
    rows = {"data_name": "csv", "data_files": str(QUICKSTART / "held_out.csv")}
    columns = {"input_cols": ["text"], "label_cols": ["label"]}
    accuracy = {"name": "accuracy", "type": "accuracy", "backend": "huggingface_metrics", "data_config": "held_out"}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": str(QUICKSTART / "model"), "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [
            {"name": "held_out", "type": "HuggingfaceContainer", "params_config": {**rows, **columns, **batching}}
        ],
        "evaluators": {"e": {"metrics": [{**accuracy, "sub_types": [{"name": name} for name in metrics]}]}},
        "passes": {"conversion": {"type": "OnnxConversion"}},
        "engine": {"evaluator": "e", "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out")},
    }


def run(folder: Path, batching: dict, metrics: list[str]) -> tuple[float, dict]:
    """One run in a process of its own.

    :return: its seconds, and its run.json
    """
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(make_config(folder, batching, metrics)))
    command = [sys.executable, "-m", "hfopt", "run", str(folder / "config.json")]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, json.loads((folder / "out" / "run.json").read_text())


def steps_of(record: dict) -> list[dict]:
    return record["results"][0]["candidates"][0]["steps"]


def evaluation_seconds(record: dict) -> float:
    """What the input model's predictions and their scores took."""
    seconds = {step["name"]: step["seconds"] for step in steps_of(record)}
    return seconds[EVALUATION]


def compare(folder: Path) -> bool:
    """Evaluate in both ways, and print a line for each.

    :return: whether batches take little enough of the time
    """
    seconds: dict[str, list[float]] = {name: [] for name in SIZES}
    for number in range(ROUNDS):
        for name in sorted(SIZES, reverse=bool(number % 2)):
            _, record = run(folder / f"{name} {number}", SIZES[name], ["accuracy"])
            seconds[name].append(evaluation_seconds(record))
    environment = record["environment"]
    print(f"the input model on 4,000 reviews, {environment['threads']} threads; median of {ROUNDS}, and each")
    for name, taken in seconds.items():
        print(f"{name:14}{statistics.median(taken):7.1f} s   {' '.join(f'{each:.1f}' for each in taken)}")
    single, batched = (statistics.median(taken) for taken in seconds.values())
    kept = batched <= RATIO * single
    print(f"ratio {batched / single:.2f}, at most {RATIO}: {'ok' if kept else 'EXCEEDED'}")
    return kept


def rescore(folder: Path) -> bool:
    """Add a metric to a finished run, and print what that took.

    :return: whether it was quick, and ran no model
    """
    seconds, record = run(folder / "none written 0", SIZES["none written"], ["accuracy", "f1"])
    predicted = [step for step in steps_of(record) if step["type"] == "hfopt:predict"]
    again = [step["name"] for step in predicted if not step["cached"]]
    kept = bool(predicted) and not again and seconds <= RESCORE_SECONDS
    print(f"f1 added: {seconds:.1f} s, at most {RESCORE_SECONDS} s: {'ok' if kept else 'EXCEEDED'}")
    print(f"predicted again: {', '.join(again) or 'nothing'}")
    return kept


def main() -> int:
    """Print both.

    :return: 1 if a limit is exceeded
    """
    if not (QUICKSTART / "model").is_dir():
        raise SystemExit(f"{QUICKSTART / 'model'} is not there: `make quickstart` makes it, and the reviews")
    with tempfile.TemporaryDirectory() as name:
        return 0 if all([compare(Path(name)), rescore(Path(name))]) else 1


if __name__ == "__main__":
    sys.exit(main())

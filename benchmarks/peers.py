"""hfopt beside Olive 0.13: the same model, rows and passes, in seconds, CPU and memory (`make bench-peers`).

Three pairs in turn, each a whole cold run of hfopt (an empty cache) and one of Olive (a clean cache), then one more run
of each, which finds everything in its cache; medians count. CPU is user and system time of the whole tree of processes,
as the operating system adds it up. Memory is the tree's largest sum of proportional set sizes (shared pages counted
once), looked at four times a second in a pair of its own, as looking takes time. Each has its own defaults where the
config says nothing, except that Olive's rows are padded to 64 tokens, as it calibrates with rows of one length.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
FOLDER, QUICKSTART = ROOT / "build" / "peers", ROOT / "build" / "quickstart"
MODEL, ROWS = QUICKSTART / "model", QUICKSTART / "calibration.csv"
PAIRS, SECONDS_BETWEEN_LOOKS = 3, 0.25
LIMITS = {"wall s": 0.8, "CPU s": 1.0, "memory MiB": 0.6, "second run s": 0.1}
"""Of Olive's."""
FIGURES = {"wall s": "wall", "CPU s": "cpu"}
"""Of cold runs, by the names in LIMITS."""

TORCH = "torch==2.13.0"
OLIVE = ("olive-ai==0.13.0", "requests", "psutil", "onnxruntime", "datasets", "evaluate", "scikit-learn")
BROKEN, REPAIRED = "value.lower()", "str(value).lower()"
"""In the `_missing_` of Olive's enums: today's pydantic asks them for None, which has no `lower`."""

PASSES: dict[str, dict[str, dict[str, Any]]] = {
    "conversion": {"OnnxConversion": {"target_opset": 17}},
    "fusion": {"OrtTransformersOptimization": {"model_type": "bert"}},
    "quantization": {"OnnxStaticQuantization": {"data_config": "reviews", "calibrate_method": "MinMax"}},
}
"""Both take these; tuning has another name in each."""
COLUMNS = {"data_name": "csv", "data_files": str(ROWS)}


@dataclass(frozen=True)
class Usage:
    """What one run took."""

    wall: float
    cpu: float
    mebibytes: float


def config_of_hfopt() -> dict[str, Any]:
    """The run as hfopt is told."""
    rows = {**COLUMNS, "input_cols": ["text"], "label_cols": ["label"]}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": str(MODEL), "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "reviews", "type": "HuggingfaceContainer", "params_config": rows}],
        "evaluators": {"e": {"metrics": metrics("accuracy", "f1", backend="huggingface_metrics")}},
        "passes": passes("OrtPerfTuning"),
        "engine": {"evaluator": "e", "cache_dir": "cache", "output_dir": "out"},
    }


def config_of_olive(*, clean: bool) -> dict[str, Any]:
    """The run as Olive 0.13 is told.

    :param clean: begin with an empty cache
    """
    preprocessing = {"input_cols": ["text"], "label_col": "label", "max_length": 64, "padding": "max_length"}
    cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    return {
        "input_model": {
            "type": "HfModel",
            "model_path": str(MODEL),
            "task": "text-classification",
            "load_kwargs": {"attn_implementation": "eager"},
        },
        "systems": {"local": {"type": "LocalSystem", "accelerators": [cpu]}},
        "data_configs": [
            {
                "name": "reviews",
                "type": "HuggingfaceContainer",
                "load_dataset_config": {**COLUMNS, "split": "train"},
                "pre_process_data_config": {"model_name": str(MODEL), **preprocessing},
                "dataloader_config": {"batch_size": 1},
            }
        ],
        "evaluators": {"e": {"metrics": metrics("accuracy_score", "f1_score")}},
        "passes": passes("OrtSessionParamsTuning"),
        **{"evaluator": "e", "host": "local", "target": "local"},
        **{"cache_dir": "cache", "output_dir": "out", "clean_cache": clean},
    }


def metrics(accuracy: str, f1: str, **backend: str) -> list[dict[str, Any]]:
    """The same figures under each one's names."""
    quality = [{"name": accuracy, "priority": 1}, {"name": f1}]
    return [
        {"name": "accuracy", "type": "accuracy", "data_config": "reviews", "sub_types": quality, **backend},
        {
            "name": "latency",
            "type": "latency",
            "data_config": "reviews",
            "sub_types": [{"name": "avg", "priority": 2}],
        },
    ]


def passes(tuning: str) -> dict[str, Any]:
    every = {**PASSES, "tuning": {tuning: {"data_config": "reviews"}}}
    return {name: {"type": kind, "config": options} for name, each in every.items() for kind, options in each.items()}


def make_environment() -> Path:
    """Olive's own, once; a part of it that is not there is made again.

    :return: its folder of commands
    """
    folder = FOLDER / "venv"
    commands = folder / "bin"
    if not (folder / "made").exists():
        print(f"installing {OLIVE[0]} below {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(commands / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for wanted in (["--upgrade", "pip"], [TORCH], [*OLIVE, TORCH]):
            subprocess.run([*pip, *wanted], check=True)
        file = next(folder.glob("lib/python*/site-packages/olive/common/config_utils.py"))
        text = file.read_text("utf-8")
        file.write_text(text.replace(BROKEN, REPAIRED), "utf-8")
        (folder / "made").touch()
    return commands


def measure(name: str, command: list[str], folder: Path, config: dict[str, Any], *, look: bool = False) -> Usage:
    """One run in a folder, which keeps its config and what it prints; a line tells what it took.

    :param look: at its memory
    :raises SystemExit: it fails
    """
    (folder / "config.json").write_text(json.dumps(config, indent=4), "utf-8")
    environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / f"{name}.log".replace(" ", "-")
    with open(log, "wb") as stream:
        start = time.perf_counter()
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        peak, ended = 0, 0
        while not ended:
            if look:
                peak = max(peak, memory_of(process))
                time.sleep(SECONDS_BETWEEN_LOOKS)
            ended, status, used = os.wait4(process.pid, os.WNOHANG if look else 0)
        wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{name} failed: {log}")
    usage = Usage(wall, used.ru_utime + used.ru_stime, peak / 2**20)
    print(f"{name:14} {usage.wall:8.1f} {usage.cpu:8.1f} {usage.mebibytes:8.0f}", flush=True)
    return usage


def memory_of(process: psutil.Process) -> int:
    """Bytes of a process and all below it."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def run_pairs(commands: Path) -> dict[str, list[float]]:
    """Every figure, hfopt's and Olive's."""
    cold: list[tuple[Usage, Usage]] = []
    ours = [sys.executable, "-m", "hfopt", "run", "config.json"]
    olives = [str(commands / "olive"), "run", "--config", "config.json"]
    with TemporaryDirectory(dir=FOLDER) as name:
        for number in range(PAIRS + 1):
            look = number == PAIRS
            folders = [Path(name) / f"hfopt-{number}", Path(name) / f"olive-{number}"]
            for folder in folders:
                folder.mkdir()
            hfopt = measure("hfopt", ours, folders[0], config_of_hfopt(), look=look)
            cold.append((hfopt, measure("Olive", olives, folders[1], config_of_olive(clean=True), look=look)))
        again = (
            measure("hfopt again", ours, folders[0], config_of_hfopt()),
            measure("Olive again", olives, folders[1], config_of_olive(clean=False)),
        )
    found = {
        name: [statistics.median(getattr(usage, field) for usage in each) for each in zip(*cold[:PAIRS], strict=True)]
        for name, field in FIGURES.items()
    }
    memory = [usage.mebibytes for usage in cold[PAIRS]]
    return {**found, "memory MiB": memory, "second run s": [usage.wall for usage in again]}


def main() -> int:
    """Print a line per run, and the ratios of medians.

    :return: 1 if a limit is exceeded
    """
    if not MODEL.is_dir():
        raise SystemExit(f"{MODEL} is not there: `make quickstart` makes it, and the reviews")
    commands = make_environment()
    print(f"{'':14} {'wall s':>8} {'CPU s':>8} {'MiB':>8}")
    within = True
    for name, (hfopt, olive) in run_pairs(commands).items():
        kept = hfopt <= LIMITS[name] * olive
        within &= kept
        verdict = f"at most {LIMITS[name]}: {'ok' if kept else 'EXCEEDED'}"
        print(f"{name:14} {hfopt:8.1f} to {olive:8.1f}, ratio {hfopt / olive:.2f}, {verdict}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())

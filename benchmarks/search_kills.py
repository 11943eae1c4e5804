"""A search of passes that do nothing, killed 200 times at random moments: what is lost (`make bench`)?

Nothing may be: every finished step stays and is not run again, no artifact is half there, no process outlives its host,
and the trials and the best of them are those of a search that was left alone. `KILLS=12` for fewer.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TOY = Path(__file__).parents[1] / "tests" / "core" / "toy.py"
KILLS = int(os.environ.get("KILLS", "200"))
MOST_STEPS, MOST_SECONDS = 2, 0.1
"""A run is killed so many steps after it has begun, and as many seconds later: at most."""


def make_project(folder: Path) -> None:
    """A search that is not over after many kills: a trial takes little, and there are hundreds."""
    folder.mkdir()
    (folder / "line.json").write_text('{"slope": 0.5}')
    (folder / "points.json").write_text(json.dumps([[x / 10, int(x > 15)] for x in range(30)]))
    factors = {"search": [round(0.1 * number, 1) for number in range(1, 31)]}
    delays = {"search": [number / 1e9 for number in range(20)]}
    sub_types = [{"name": "accuracy", "priority": 1}, {"name": "mean", "priority": 2}]
    accuracy = {"name": "accuracy", "type": "accuracy", "backend": "toy_metrics", "data_config": "points"}
    config = {
        "input_model": {"type": "Line", "config": {"model_path": "line.json"}},
        "data_configs": [{"name": "points", "type": "Points", "params_config": {"data_file": "points.json"}}],
        "evaluators": {"e": {"metrics": [{**accuracy, "sub_types": sub_types}]}},
        "passes": {
            "scale": {"type": "Scale", "config": {"factor": factors}},
            "retune": {"type": "Retune", "config": {"delay": delays}},
        },
        "engine": {
            "evaluator": "e",
            "search_strategy": {
                "search_algorithm": "random",
                "search_algorithm_config": {"num_samples": 500, "seed": 3},
            },
        },
    }
    (folder / "config.json").write_text(json.dumps(config))


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Begin to search, or go on."""
    command = [sys.executable, "-m", "hfopt", "run", "config.json", "-p", str(TOY)]
    environment = {**os.environ, "TOY_LOG": str(folder / "toy.log")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=environment, **quiet)


def finished(folder: Path) -> dict[str, str]:
    """The digests that the manifests of finished steps name, by key."""
    manifests = [json.loads(file.read_bytes()) for file in folder.glob(".hfopt-cache/artifacts/*/*/manifest.json")]
    return {each["key"]: each["digest"] for each in manifests}


def outcome(folder: Path) -> tuple[list[tuple], str]:
    """The trials, and the best of them."""
    (result,) = json.loads((folder / "hfopt-output" / "run.json").read_text())["results"]
    return [(each["id"], each["choices"], each["metrics"]) for each in result["candidates"]], result["best"]


def kill_one(folder: Path, steps: int, seconds: float) -> list[str]:
    """Kill a run when it has finished some steps, and some seconds have passed since.

    :return: what is wrong afterwards
    """
    before, process = finished(folder), start(folder)
    wanted = len(before) + steps
    while len(list(folder.glob(".hfopt-cache/artifacts/*/*"))) < wanted and process.poll() is None:
        time.sleep(0.02)
    time.sleep(seconds)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    wrong = ["a process outlived its host"] if alive else []
    return wrong if before.items() <= finished(folder).items() else [*wrong, "a finished step was lost"]


def main() -> int:
    """Kill, then let the search end, and print what was found.

    :return: 1 if anything was lost
    """
    chance = random.Random(11)
    with tempfile.TemporaryDirectory() as name:
        alone, killed = Path(name, "alone"), Path(name, "killed")
        for folder in (alone, killed):
            make_project(folder)
        start(alone).wait()
        wrong, steps = [], []
        for _ in range(KILLS):
            wrong += kill_one(killed, chance.randint(0, MOST_STEPS), chance.uniform(0, MOST_SECONDS))
            steps.append(len(finished(killed)))
        code = start(killed).wait()
        verify = [sys.executable, "-m", "hfopt", "cache", "verify"]
        intact = subprocess.run(verify, cwd=killed, stdout=subprocess.DEVNULL, check=False).returncode == 0
        runs = [(folder / "toy.log").read_text().splitlines() for folder in (alone, killed)]
        checks = {
            "exit code 0": code == 0,
            "nothing lost, nobody left": not wrong,
            "same trials, same best": outcome(killed) == outcome(alone),
            "same artifacts": finished(killed) == finished(alone),
            "every artifact is whole": intact,
            "nothing half made": not list(killed.glob(".hfopt-cache/making/*")),
            "at most one step a kill was repeated": len(runs[1]) <= len(runs[0]) + KILLS,
        }
        trials = len(outcome(alone)[0])
    during = len({*steps}) - 1
    print(f"{KILLS} kills of a search of {trials} trials, {during} of them after new steps had been done")
    print(f"passes run: {len(runs[0])} undisturbed, {len(runs[1])} with the kills")
    for check, held in checks.items():
        print(f"{check:40} {'ok' if held else 'NOT SO'}")
    for each in sorted({*wrong}):
        print(f"{each}: {wrong.count(each)} times")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

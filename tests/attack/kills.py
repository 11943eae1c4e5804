"""Kills: a run, its worker or a timing process is sent a signal at any moment, then the same command is given again.

Nothing finished is lost or made twice, no process is left, and the model is the one that an undisturbed run makes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from conftest import Project, project_in
from test_kill import FACTORS, artifacts, children_of, descendants_of, gone, slow, wait_until
from world import Attempt

TITLE = "kills"
LEAST = 40
SHARE = 3

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VICTIMS = ("run", "worker", "timing process")
LONGEST = 4.0
"""About what an undisturbed run takes, in seconds."""


def attempts(chance: random.Random) -> Iterator[Attempt]:
    """Every signal to every victim, again and again, each time at another moment; now and then twice in a row."""
    while True:
        for victim in VICTIMS:
            for number in SIGNALS:
                moments = [chance.uniform(0, LONGEST) for _ in range(chance.choice((1, 1, 2)))]
                at = ", ".join(f"{moment:.2f} s" for moment in moments)
                yield Attempt(f"{number.name} to the {victim} after {at}", partial(kill, victim, number, moments))


def kill(victim: str, number: int, moments: list[float], folder: Path) -> str | None:
    """Send the signal at those moments, each in a run of its own, then let a run end."""
    project = project_in(folder)
    slow(project, seconds=0.1)
    project.config["passes"]["fifth"] = {"type": "Retune", "config": {"delay": 0.004}}
    timing = {"name": "p50", "metric_config": {"warmup_num": 0, "repeat_test_num": 64}}
    latency = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [timing]}
    project.config["evaluators"]["e"]["metrics"].append(latency)
    finished: set[str] = set()
    for moment in moments:
        if (wrong := disturb(project, victim, number, moment)) is not None:
            return wrong
        if not finished <= artifacts(project):
            return "what an earlier run had finished is gone"
        finished = artifacts(project)
    done = project.run()
    if done.returncode != 0:
        return f"the same command again ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}"
    return wrong_afterwards(project, finished, most=1 + len(moments))


def disturb(project: Project, victim: str, number: int, moment: float) -> str | None:
    process = project.start()
    try:
        if not wait_until(lambda: catches(process.pid, signal.SIGTERM) or process.poll() is not None):
            return "it does not begin"
        time.sleep(moment)
        pid = chosen(victim, process)
        started = descendants_of(process.pid)
        with suppress(ProcessLookupError):
            if process.poll() is None:
                os.kill(pid, number)
        stdout, stderr = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        return "it does not end"
    finally:
        process.kill()
    if not gone(started):
        return "a process outlived the run"
    if "Traceback" in stdout + stderr:
        return f"a traceback: {stderr[-300:]}"
    right = (0, 1) if pid != process.pid else (0, -number) if number == signal.SIGKILL else (0, 130)
    return None if process.returncode in right else f"it ended with {process.returncode}: {stderr[-300:]}"


def chosen(victim: str, process: subprocess.Popen[str]) -> int:
    """The process to kill: the nearest to the victim that there is."""
    workers = children_of({process.pid})
    timing = descendants_of(process.pid) - workers
    if victim == "timing process" and timing:
        return max(timing)
    return max(workers) if victim != "run" and workers else process.pid


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: before that, Python itself is starting."""
    with suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def wrong_afterwards(project: Project, finished: set[str], *, most: int) -> str | None:
    """What is wrong after the run that was left alone.

    :param most: how often a pass may have logged that it ran: it does so just before its artifact is committed
    """
    repeated = [step["name"] for step in project.candidate["steps"] if step["key"] in finished and not step["cached"]]
    if passes := project.config["passes"].keys() & {*repeated}:
        return f"finished, and made again: {', '.join(passes)}"
    if often := [factor for factor in FACTORS if project.executed.count(f"Scale {factor}") > most]:
        return f"ran more often than it was disturbed: {often}"
    if left := [*(project.folder / ".hfopt-cache" / "making").iterdir()]:
        return f"left half made: {left}"
    if left := [*project.folder.glob("hfopt-output/.*")]:
        return f"left in the output: {left}"
    found = json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text())
    return None if found == {"slope": 0.5 * 2.25} else f"best/ holds {found}"

"""Killed at any moment, the same command goes on, and repeats nothing that was finished."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest


def slow(project, seconds=0.15):
    project.config["passes"] = {
        name: {"type": "Scale", "config": {"factor": factor, "seconds": seconds}}
        for name, factor in (("first", 2.0), ("second", 0.5), ("third", 3.0), ("fourth", 0.75))
    }


def children_of(pid: int) -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(status.parent.name))
    return found


def gone(pids: set[int], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path("/proc", str(pid)).exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.timeout(180)
def test_ten_kills_at_random_moments_lose_nothing(project):
    slow(project)
    chance = random.Random(11)
    for _ in range(10):
        finished = {path.name for path in (project.folder / ".hfopt-cache" / "artifacts").glob("*/*")}
        process = project.start()
        time.sleep(chance.uniform(0.1, 1.6))
        workers = children_of(process.pid)
        process.kill()
        process.communicate()
        assert gone(workers), "a worker outlived its host"
        kept = {path.name for path in (project.folder / ".hfopt-cache" / "artifacts").glob("*/*")}
        assert finished <= kept

    done = project.run()

    assert done.returncode == 0
    steps = {step["name"]: step for step in project.candidate["steps"]}
    assert {name for name, step in steps.items() if step["key"] in kept} == {
        name for name, step in steps.items() if step["cached"]
    }
    assert json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text()) == {"slope": 0.5 * 2.25}
    for factor in (2.0, 0.5, 3.0, 0.75):
        # A pass logs itself just before its artifact is committed: a kill in between makes it run once more.
        assert project.executed.count(f"Scale {factor}") <= 2
    assert list((project.folder / ".hfopt-cache" / "making").iterdir()) == []


def test_an_interrupt_ends_with_130_and_leaves_a_run_that_goes_on(project):
    slow(project, seconds=0.4)
    process = project.start()
    while not project.executed:
        time.sleep(0.02)
    workers = children_of(process.pid)

    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=10)

    assert process.returncode == 130
    assert "interrupted: the same command goes on where this one stopped" in stdout
    assert project.record["status"] == "interrupted"
    assert gone(workers)
    assert project.run().returncode == 0
    assert project.cached()["first"] is True
    assert project.executed.count("Scale 2.0") == 1


def test_a_worker_that_is_killed_is_a_failed_step_and_not_a_dead_run(project):
    slow(project, seconds=1)
    process = project.start()
    while not (workers := children_of(process.pid)):
        time.sleep(0.02)
    time.sleep(0.8)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)

    stdout, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "the worker was killed by SIGKILL (killed from outside, or out of memory)" in stdout

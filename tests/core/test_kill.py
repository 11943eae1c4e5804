"""Killed or interrupted at any moment: nothing finished is lost or repeated, and no process is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

FACTORS = (2.0, 0.5, 3.0, 0.75)


def slow(project, seconds=0.15):
    project.config["passes"] = {
        name: {"type": "Scale", "config": {"factor": factor, "seconds": seconds}}
        for name, factor in zip(("first", "second", "third", "fourth"), FACTORS, strict=True)
    }


def children_of(pids: set[int]) -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) in pids:
                found.add(int(status.parent.name))
    return found


def descendants_of(pid: int) -> set[int]:
    found, newest = set(), {pid}
    while newest := children_of(newest):
        found |= newest
    return found


def names_of_open_files(pid: int) -> set[str]:
    found = set()
    for descriptor in Path("/proc", str(pid), "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(descriptor.readlink().name)
    return found


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def gone(pids: set[int]) -> bool:
    """Whether processes end soon, without leaving zombies."""
    return wait_until(lambda: not any(Path("/proc", str(pid)).exists() for pid in pids), seconds=10)


def artifacts(project) -> set[str]:
    return {path.name for path in (project.folder / ".hfopt-cache" / "artifacts").glob("*/*")}


@pytest.mark.timeout(180)
def test_kills_at_random_moments_lose_nothing(project):
    slow(project)
    chance = random.Random(11)
    for _ in range(7):
        finished = artifacts(project)
        process = project.start()
        time.sleep(chance.uniform(0.2, 1.4))
        started = descendants_of(process.pid)
        process.kill()
        process.communicate()
        assert gone(started), "a worker outlived its host"
        kept = artifacts(project)
        assert finished <= kept

    done = project.run()

    assert done.returncode == 0
    steps = {step["name"]: step for step in project.candidate["steps"]}
    assert {name for name, step in steps.items() if step["key"] in kept} == {
        name for name, step in steps.items() if step["cached"]
    }
    assert json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text()) == {"slope": 0.5 * 2.25}
    for factor in FACTORS:
        # A pass logs itself just before its artifact is committed: a kill in between makes it run once more.
        assert project.executed.count(f"Scale {factor}") <= 2
    assert list((project.folder / ".hfopt-cache" / "making").iterdir()) == []


def test_what_a_killed_run_had_finished_is_in_the_journal_and_it_is_listed_as_killed(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "hang_with_a_child"}}
    process = project.start()
    wait_until(lambda: len(descendants_of(process.pid)) == 2)
    started = descendants_of(process.pid)
    runs = [sys.executable, "-m", "hfopt", "runs", "--json"]
    (running,) = json.loads(subprocess.check_output(runs, cwd=project.folder))

    process.kill()
    process.communicate()

    (killed,) = json.loads(subprocess.check_output(runs, cwd=project.folder))
    assert (running["status"], killed["status"], killed["ended"]) == ("running", "killed", None)
    assert (killed["made"], killed["failed"]) == (running["made"], 0)
    assert killed["made"] >= 2
    assert gone(started)


def test_a_worker_that_is_killed_is_a_failed_step_and_not_a_dead_run(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "hang_with_a_child"}}
    process = project.start()
    wait_until(lambda: len(descendants_of(process.pid)) == 2)
    started = descendants_of(process.pid)
    for pid in started:
        if b"worker" in Path("/proc", str(pid), "cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)

    stdout, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "the worker was killed by SIGKILL (killed from outside, or out of memory)" in stdout
    assert gone(started)


LOADING = """
import sys, time
print("loading", file=sys.stderr, flush=True)
time.sleep(3600)
"""


def while_a_plugin_is_loaded(project):
    (project.folder / "own.py").write_text(LOADING)
    process = project.start("-p", "own.py")
    assert process.stderr.readline() == "loading\n"
    return process


def while_leaves_are_hashed(project):
    with open(project.folder / "line.json", "r+b") as line:
        line.truncate(2**38)
    process = project.start()
    assert wait_until(lambda: "line.json" in names_of_open_files(process.pid))
    return process


def in_native_code(project, *arguments, how="hang_in_native_code"):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": how}}
    process = project.start(*arguments)
    assert wait_until(lambda: "native" in project.executed)
    return process


def with_a_child_of_the_worker(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "hang_with_a_child"}}
    process = project.start()
    assert wait_until(lambda: len(descendants_of(process.pid)) == 2)
    return process


def while_measuring(project, *arguments):
    timing = {"warmup_num": 0, "repeat_test_num": 10**9}
    figure = {"name": "p50", "metric_config": timing}
    project.config["evaluators"]["e"]["metrics"] = [
        {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [figure]}
    ]
    process = project.start(*arguments)
    # The worker, what forks processes for this type of model, and one process for each of two models.
    assert wait_until(lambda: len(descendants_of(process.pid)) == 4 - len(arguments))
    time.sleep(0.1)
    return process


def while_best_is_made(project):
    os.environ["TOY_SNIPPET_SECONDS"] = "3600"
    process = project.start()
    del os.environ["TOY_SNIPPET_SECONDS"]
    assert wait_until(lambda: list((project.folder / "hfopt-output").glob(".hfopt-making-*/line.json")))
    return process


MOMENTS = {
    "a plugin is loaded": while_a_plugin_is_loaded,
    "leaves are hashed": while_leaves_are_hashed,
    "a worker is in native code": in_native_code,
    "a worker has a child": with_a_child_of_the_worker,
    "models are timed": while_measuring,
    "models are timed in process": lambda project: while_measuring(project, "--in-process"),
    "best is made": while_best_is_made,
    "a step runs in process": lambda project: in_native_code(project, "--in-process"),
    "a step is in native code in process": lambda project: in_native_code(project, "--in-process", how="crunch"),
}


def interrupt(process, *numbers):
    """Send signals, a moment apart.

    :return: seconds until the end, what was printed
    """
    started = descendants_of(process.pid)
    begun = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    stdout, stderr = process.communicate(timeout=30)
    seconds = time.monotonic() - begun
    assert gone(started), "a process outlived the run"
    return seconds, stdout, stderr


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_ends_a_run_within_two_seconds_wherever_it_is_and_a_second_one_shows_no_traceback(project, moment):
    process = MOMENTS[moment](project)

    seconds, stdout, stderr = interrupt(process, signal.SIGINT, signal.SIGINT)

    assert process.returncode == 130
    assert seconds < 4  # two, and as much again for a busy machine
    assert "Traceback" not in stderr
    assert "interrupted" in stdout + stderr
    assert not list(project.folder.glob("hfopt-output/.hfopt-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_an_interrupted_run_leaves_goes_on(project, number):
    in_worker = with_a_child_of_the_worker(project)
    first = next((project.folder / ".hfopt-cache").glob("artifacts/*/*/line.json")).parent.name

    _, stdout, _ = interrupt(in_worker, number)

    assert in_worker.returncode == 130
    assert stdout == "interrupted: run the same command again to continue\n"
    assert project.record["status"] == "interrupted"
    project.config["passes"]["second"] = {"type": "Scale", "config": {}}
    assert project.run().returncode == 0
    assert {step["key"] for step in project.candidate["steps"] if step["cached"]} >= {first}
    assert project.executed.count("Scale 2.0") == 1


def test_a_run_that_is_told_to_ignore_hangups_does(project):
    project.config["passes"]["first"]["config"]["seconds"] = 0.5
    process = project.start(below=("nohup",))
    wait_until(lambda: (project.folder / "toy.log.spans").exists())

    process.send_signal(signal.SIGHUP)

    process.communicate(timeout=60)
    assert process.returncode == 0


FORKING = """
import multiprocessing, time
from hfopt.base import processes as signals
signals.GRACE_SECONDS = 0.1
with signals.interruptible():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    time.sleep(0.1)
    child.terminate()
    child.join()
    time.sleep(0.3)
    print(child.exitcode)
"""


def test_ending_a_forked_child_does_not_end_its_parent():
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGTERM}\n", "")


@pytest.mark.timeout(300)
def test_a_search_that_is_killed_again_and_again_is_the_same_as_one_that_is_not(make_project):
    kills = int(os.environ.get("HFOPT_KILLS", "6"))

    def searching():
        project = make_project()
        factors = {"search": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]}
        project.config["passes"] = {
            "first": {"type": "Scale", "config": {"factor": factors, "seconds": 0.05}},
            "second": {"type": "Scale", "config": {"factor": {"search": [0.5, 2.0]}}},
        }
        options = {"num_samples": 10, "seed": 5}
        project.config["engine"]["search_strategy"] = {"search_algorithm": "random", "search_algorithm_config": options}
        return project

    def trials(project):
        (result,) = project.record["results"]
        return [(each["id"], each["choices"], each["metrics"]) for each in result["candidates"]], result["best"]

    undisturbed, killed = searching(), searching()
    assert undisturbed.run().returncode == 0
    chance = random.Random(7)
    for _ in range(kills):
        finished = artifacts(killed)
        process = killed.start()
        time.sleep(chance.uniform(0.3, 1.8))
        started = descendants_of(process.pid)
        process.kill()
        process.communicate()
        assert gone(started), "a worker outlived its host"
        assert finished <= artifacts(killed), "a finished step was lost"
    assert killed.run().returncode == 0

    assert trials(killed) == trials(undisturbed)
    assert artifacts(killed) == artifacts(undisturbed)
    done = [line for line in killed.executed if line.startswith("Scale")]
    once = [line for line in undisturbed.executed if line.startswith("Scale")]
    assert len(done) <= len(once) + kills, "a finished step was repeated"

"""Two runs on one cache and one machine: no step twice, no measurement beside anything else."""

from __future__ import annotations

import copy
import errno
import fcntl
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import time

import pytest

from hfopt.base.errors import HfoptError
from hfopt.cache import locks
from hfopt.cache.locks import exclusive, exclusive_cache, machine_lock, using_cache


def test_two_runs_at_once_do_each_step_once_and_nothing_runs_beside_what_measures(project):
    passes = project.config["passes"]
    passes["first"]["config"]["seconds"] = 1.0
    passes["tune"] = {"type": "Tune", "config": {"seconds": 0.3}}
    other = copy.deepcopy(project.config)
    other["passes"]["second"]["config"] = {"factor": 3.0, "seconds": 0.3}
    (project.folder / "other.json").write_text(json.dumps(other))
    runs = [
        project.start("--output-dir", config.removesuffix(".json"), config=config)
        for config in ("config.json", "other.json")
    ]

    outputs = [run.communicate() for run in runs]

    assert [run.returncode for run in runs] == [0, 0], outputs
    once = ["Scale 0.75", "Scale 2.0", "Scale 3.0"]
    assert sorted(project.executed) == [*["Retune []"] * 2, *once, "Tune", "Tune"]
    spans = project.spans
    alone = [span for span in spans if span[2] == "Tune"]
    assert len(alone) == 2
    for begin, end, _ in alone:
        others = [span for span in spans if span[0] != begin]
        assert all(another_end <= begin or another_begin >= end for another_begin, another_end, _ in others)


def test_a_run_says_that_it_waits_for_another_and_takes_over_when_that_is_killed(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "hang_until_told"}}
    hold = project.folder / "toy.log.hold"
    hold.touch()
    first = project.start("--output-dir", "one")
    while "waits" not in project.executed:
        time.sleep(0.02)
    second = project.start("--output-dir", "two")
    lines = iter(second.stderr.readline, "")
    assert any(re.search("second +waiting for another run that does the same", line) for line in lines)

    first.kill()
    first.communicate()
    hold.unlink()

    second.communicate()
    assert second.returncode == 0
    assert [line for line in project.executed if not line.startswith("Retune")] == ["Scale 2.0", "waits", "waits"]


def test_a_run_that_waits_for_the_machine_says_for_which_run_since_when_and_what_ends_it(project):
    figure = {"name": "p50", "metric_config": {"warmup_num": 0, "repeat_test_num": 10**9}}
    metric = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [figure]}
    project.config["evaluators"]["e"]["metrics"] = [metric]
    first = project.start("--output-dir", "one")
    assert any(line.startswith("  third") for line in iter(first.stderr.readline, ""))
    project.config["passes"]["first"]["config"]["factor"] = 3.0

    second = project.start("--output-dir", "two")

    told = (
        "waiting for a measurement to end: hfopt run config.json --output-dir one -p "
        rf"{re.escape(str(project.plugin))} in {re.escape(str(project.folder))}, "
        rf"since \d\d:\d\d:\d\d; kill {first.pid} ends it"
    )
    assert any(re.search(told, line) for line in iter(second.stderr.readline, ""))


HOLD = """
import sys, time
from hfopt.cache.locks import machine_lock
with machine_lock(alone=sys.argv[1] == "alone", waiting=lambda _: print("waiting", flush=True)):
    print("holding", flush=True)
    time.sleep(60)
"""


def hold(how):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, how], stdout=subprocess.PIPE, text=True)
    return holder, holder.stdout.readline().strip()


def end(holder):
    holder.kill()
    holder.communicate()


def test_ordinary_steps_share_the_machine_and_a_measurement_waits_for_them_to_end():
    first, _ = hold("together")
    second, state = hold("together")
    assert state == "holding"
    alone, state = hold("alone")
    assert state == "waiting"

    end(first)
    end(second)

    assert alone.stdout.readline().strip() == "holding"
    end(alone)


def test_an_ordinary_step_that_comes_later_waits_behind_a_measurement_that_waits():
    first, _ = hold("together")
    alone, _ = hold("alone")

    later, state = hold("together")

    assert state == "waiting"
    end(first)
    assert alone.stdout.readline().strip() == "holding"
    end(alone)
    assert later.stdout.readline().strip() == "holding"
    end(later)


def test_nobody_waits_on_a_free_machine():
    waited = []

    with machine_lock(alone=True, waiting=waited.append):
        pass

    assert waited == []


@pytest.fixture
def lock_folder(tmp_path, monkeypatch):
    """The machine's lock folder, which is not there yet."""
    monkeypatch.setenv("HFOPT_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_the_machines_lock_files_serve_every_user_whatever_the_umask_of_the_first(lock_folder):
    before = os.umask(0o077)
    try:
        with machine_lock(alone=True, waiting=lambda _: None):
            pass
    finally:
        os.umask(before)

    assert stat.S_IMODE(lock_folder.stat().st_mode) == 0o1777
    assert [stat.S_IMODE(file.stat().st_mode) for file in lock_folder.iterdir()] == [0o666, 0o666]


TAKE = """
import os
from hfopt.cache.locks import machine_lock
if os.getuid() == 0:
    os.setuid(65534)
with machine_lock(alone=True, waiting=lambda _: None):
    print("mine")
"""


@pytest.mark.parametrize("mode", [0o666, 0o444])
def test_another_users_lock_files_in_a_sticky_folder_can_be_locked(tmp_path, lock_folder, mode):
    made_by_pytest = [each for each in (tmp_path, *tmp_path.parents) if each.is_relative_to(tempfile.gettempdir())]
    for folder in made_by_pytest[:-1]:
        folder.chmod(0o755)
    with machine_lock(alone=True, waiting=lambda _: None):
        for file in lock_folder.iterdir():
            file.chmod(mode)

    done = subprocess.run([sys.executable, "-c", TAKE], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("mine\n", "")


def test_a_lock_folder_that_can_not_be_used_is_explained(lock_folder):
    lock_folder.write_text("")

    with (
        pytest.raises(
            HfoptError, match=r"locks/gate: can't be opened to lock it: Not a directory\n  hint: make .*locks"
        ),
        machine_lock(alone=True, waiting=lambda _: None),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_stops_no_work_but_nothing_is_removed_from_it(tmp_path, monkeypatch, number):
    """No such file system can be had in a test: flock fails as the kernel's documentation says that it does there."""

    def flock(descriptor, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)

    with using_cache(tmp_path) as certain, exclusive(tmp_path / "key") as sole:
        assert (certain, sole) == (False, False)
    with machine_lock(alone=True, waiting=lambda _: None):
        pass
    assert locks.held(tmp_path / "key")
    with pytest.raises(HfoptError, match="its file system has no locks: a run may be using it\n"):
        exclusive_cache(tmp_path).__enter__()


def test_what_follows_a_failed_step_waits_for_nothing(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "refuse"}}
    project.config["passes"]["tune"] = {"type": "Tune"}

    with machine_lock(
        alone=False, waiting=lambda _: None
    ):  # another's step, which would keep tuning waiting until the end
        done = project.run()

    assert done.returncode == 1
    assert "waiting" not in done.stderr
    assert done.stdout.startswith("no result: second: this line is crooked")

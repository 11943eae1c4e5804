"""Steps in containers of a real engine: what they can't do, what they take, and how their ends are told."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from hfopt_docker_system.container import OWNER

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def owned(engine, pid=None):
    """The containers that belong to a process, or to any."""
    found = engine.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)
    return [each for each in found if pid is None or each.labels[OWNER].split()[-2] == str(pid)]


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def test_a_step_can_read_its_inputs_and_write_nothing_but_its_result(project, engine):
    project.do("look")

    done = project.run()

    assert done.returncode == 0, done.stderr
    found = project.report("look")
    read_only = "Read-only file system"
    assert (found["input"], found["store"], found["root"]) == (read_only, read_only, read_only)
    assert found["network"] == "Network is unreachable"
    assert (int(found["capabilities"], 16), found["no_new_privileges"]) == (0, "1")
    assert found["uid"] == os.getuid()
    assert found["hostname"] != os.uname().nodename
    assert (project.folder / "inputs/note.txt").read_text() == "note "
    assert (project.folder / "hfopt-output/best/note.txt").read_text() == "note look"
    assert os.listdir(project.folder / ".hfopt-cache/making") == []
    assert owned(engine) == []


def test_a_step_that_takes_more_memory_than_it_may_is_told_so(project, engine):
    project.limit(mem_limit="300m")
    for act in ("fill_memory", "fill_memory_in_a_child"):
        project.do(act)

        done = project.run()

        assert done.returncode == 1
        assert "the container ran out of memory" in done.stderr
        assert "mem_limit" in done.stderr
    assert owned(engine) == []


def test_a_crash_is_a_failed_step_and_the_next_gets_another_container(project):
    project.do("segfault")

    done = project.run()

    assert done.returncode == 1
    assert "the worker was killed by SIGSEGV (a crash in native code)" in done.stderr


@pytest.mark.parametrize("act", ["hang", "hang_in_native_code"])
def test_a_killed_run_leaves_no_container_behind_and_its_token_is_nowhere(project, engine, act):
    token = "hf_" + "abcdefgh" * 4
    project.do(act)
    process = subprocess.Popen(
        project.command(), cwd=project.folder, env=os.environ | {"HF_TOKEN": token}, stderr=subprocess.PIPE
    )
    log = project.folder / "hfopt-output/hfopt.log"
    assert wait_until(lambda: log.exists() and f"{act}: begins" in log.read_text(), 120)
    time.sleep(1)  # so that it is in the act
    (container,) = owned(engine, process.pid)
    assert token not in str(engine.api.inspect_container(container.id))
    assert token not in log.read_text()

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert wait_until(lambda: not any(each.status == "running" for each in owned(engine, process.pid)), 5)
    assert wait_until(lambda: not owned(engine, process.pid), 30)

"""Two runs on one cache and one machine: no step twice, no measurement beside anything else."""

from __future__ import annotations

import subprocess
import sys

from hfopt.turns import turn

TIMING = {
    "name": "latency",
    "type": "latency",
    "data_config": "points",
    "sub_types": [{"name": "p50", "metric_config": {"warmup_num": 1, "repeat_test_num": 16}}],
}


def test_two_runs_at_once_on_one_cache_do_each_step_once_and_both_finish(project):
    for name in ("first", "second"):
        project.config["passes"][name]["config"]["seconds"] = 0.5
    project.config["evaluators"]["e"]["metrics"].append(TIMING)
    project.write()
    environment = project.environment
    runs = [
        subprocess.Popen(
            project.command("run", "config.json", "--output-dir", f"out-{number}"),
            cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip

    outputs = [run.communicate() for run in runs]

    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sorted(project.executed) == ["Retune []", "Scale 0.75", "Scale 2.0"]


HOLD = """
import sys, time
from pathlib import Path
from hfopt.turns import turn
with turn(alone=sys.argv[1] == "alone", waiting=lambda: print("waiting", flush=True), folder=Path(sys.argv[2])):
    print("holding", flush=True)
    time.sleep(60)
"""


def hold(folder, how):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, how, str(folder)], stdout=subprocess.PIPE, text=True)
    return holder, holder.stdout.readline().strip()


def end(holder):
    holder.kill()
    holder.communicate()


def test_ordinary_steps_share_the_machine_and_a_measurement_waits_for_them_to_end(tmp_path):
    first, _ = hold(tmp_path, "together")
    second, state = hold(tmp_path, "together")
    assert state == "holding"
    alone, state = hold(tmp_path, "alone")
    assert state == "waiting"

    end(first)
    end(second)

    assert alone.stdout.readline().strip() == "holding"
    end(alone)


def test_an_ordinary_step_that_comes_later_waits_behind_a_measurement_that_waits(tmp_path):
    first, _ = hold(tmp_path, "together")
    alone, _ = hold(tmp_path, "alone")

    later, state = hold(tmp_path, "together")

    assert state == "waiting"
    end(first)
    assert alone.stdout.readline().strip() == "holding"
    end(alone)
    assert later.stdout.readline().strip() == "holding"
    end(later)


def test_nobody_waits_on_a_free_machine(tmp_path):
    waited = []

    with turn(alone=True, waiting=lambda: waited.append(1), folder=tmp_path):
        pass

    assert waited == []

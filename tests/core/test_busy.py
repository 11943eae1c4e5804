"""A machine that does something else while models are timed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def burners():
    """A process for each CPU that does nothing but use it."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    yield
    for process in processes:
        process.kill()
        process.wait()


def test_what_is_timed_beside_other_work_is_marked_in_the_table_the_ratio_and_the_record(project, burners):
    figure = {"name": "p50", "metric_config": {"warmup_num": 0, "repeat_test_num": 16}}
    metric = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [figure]}
    project.config["evaluators"]["e"]["metrics"] = [metric]
    project.config["passes"]["third"]["config"]["delay"] = 0.05

    done = project.run()

    cpus = len(os.sched_getaffinity(0))
    assert done.returncode == 0
    assert 0 <= project.candidate["metrics"]["latency-p50"]["cpus_left"] < 0.85 * cpus
    assert project.record["results"][0]["input_model"]["metrics"]["latency-p50"]["cpus_left"] < 0.85 * cpus
    assert "│ latency-p50 (!) │" in done.stdout
    assert "latency-p50 (!): " in done.stdout
    assert "(!) timed on a busy machine, " in done.stdout
    assert "note: measure third: other processes left " in done.stderr

"""`hfopt.run`, `plan` and `validate` in Python, as a notebook calls them."""

from __future__ import annotations

import asyncio
import io
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest

import hfopt
from hfopt.measuring import machine


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return project


def steps(project):
    return {step["name"]: step for step in project.candidate["steps"]}


def arguments(project):
    return {"plugin_files": [project.plugin]}


def test_a_run_returns_its_record_and_shows_it_as_the_table(here):
    record = hfopt.run(here.config, **arguments(here))

    assert record.status == "succeeded"
    assert record.data == here.record
    assert record.results[0]["candidates"][0]["metrics"]["accuracy-accuracy"]["n"] == 200
    shown = repr(record).splitlines()
    assert shown[0] == "succeeded"
    assert any("input model ┃" in line for line in shown)
    assert shown[-1] == "model: hfopt-output/best   record: hfopt-output/run.json"
    assert repr(record) == f"succeeded\n{record.summary()}"


def test_the_table_in_python_is_that_of_the_command(here):
    done = here.run()

    record = hfopt.run("config.json", **arguments(here))

    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        line.rstrip() for line in record.summary().splitlines()
    ]


CELL = """
import hfopt
record = hfopt.run(config, plugin_files=[plugin])
shown = repr(record)
"""


def test_a_cell_of_a_notebook_runs(here):
    """In a running event loop, and as some kernels do, off the main thread, with streams that are no files."""
    found = {}

    async def cell():
        names = {"config": here.config, "plugin": here.plugin}
        exec(CELL, names)
        found["first"] = names["shown"]
        await asyncio.to_thread(exec, CELL, names)
        found["second"] = names["shown"]

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        asyncio.run(cell())

    assert found["first"].splitlines()[0] == found["second"].splitlines()[0] == "succeeded"
    assert (stdout.getvalue(), stderr.getvalue()) == ("", "")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not [thread for thread in threading.enumerate() if thread.name == "local-system"]


def test_a_terminals_lines_can_be_had_where_stderr_is_no_file(here):
    with redirect_stderr(io.StringIO()) as stderr, hfopt.Terminal() as terminal:
        hfopt.run(here.config, reporter=terminal, **arguments(here))

    assert stderr.getvalue().splitlines()[0] == "9 steps"


def test_runs_in_several_threads_at_once_all_end(here):
    records = []

    def run(number):
        records.append(hfopt.run(here.config, output_dir=f"out-{number}", **arguments(here)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [record.status for record in records] == ["succeeded"] * 3
    made = [
        step for record in records for step in record.results[0]["candidates"][0]["steps"] if step["name"] == "first"
    ]
    assert len({step["key"] for step in made}) == 1


@pytest.mark.parametrize("function", [hfopt.run, hfopt.plan, hfopt.validate])
def test_mistakes_are_one_exception_with_every_problem(here, function):
    here.config["passes"]["first"]["config"]["factr"] = 1
    here.config["passes"]["second"]["type"] = "Scael"

    with pytest.raises(hfopt.ConfigError) as caught:
        function(here.config, **arguments(here))

    assert [problem.path[:2] for problem in caught.value.problems] == [("passes", "first"), ("passes", "second")]
    assert "did you mean 'Scale'?" in str(caught.value)


def test_a_file_that_is_missing_is_an_hfopt_error(here):
    with pytest.raises(hfopt.HfoptError, match=r"nowhere\.json: no such file"):
        hfopt.run("nowhere.json")


def test_a_failed_step_is_in_the_record_and_raises_nothing(here, caplog):
    here.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "refuse"}}

    record = hfopt.run(here.config, **arguments(here))

    assert record.status == "failed"
    assert record.summary() == "no result: second: this line is crooked"
    assert ("hfopt", logging.ERROR, "second: this line is crooked") in caplog.record_tuples


def test_steps_and_warnings_go_to_the_log_named_hfopt(here, caplog):
    caplog.set_level(logging.INFO)
    here.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "warn"}}

    hfopt.run(here.config, **arguments(here))

    logged = [(level, text) for name, level, text in caplog.record_tuples if name == "hfopt"]
    assert (logging.WARNING, "second: nothing was bent") in logged
    assert any(level == logging.INFO and text.startswith("first: 0.") for level, text in logged)


INTERRUPTED = """
import sys, threading, time, hfopt, json, os, signal
from pathlib import Path
def interrupt():
    while not Path("toy.log").exists() or "waits" not in Path("toy.log").read_text():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    hfopt.run("config.json", plugin_files=[Path(sys.argv[1])])
except KeyboardInterrupt as interrupt:
    print(interrupt.record.status, interrupt.record.data == json.loads(Path("hfopt-output/run.json").read_text()))
"""


def test_an_interrupt_goes_on_to_the_caller_with_the_record_of_what_was_done(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "hang_until_told"}}
    project.write()
    (project.folder / "toy.log.hold").touch()

    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(project.plugin)],
        cwd=project.folder, env=project.environment, capture_output=True, text=True,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("interrupted True\n", "")


def test_a_plugin_that_was_edited_between_two_calls_of_one_process_runs_again(here, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(here.plugin.read_text())
    hfopt.run(here.config, plugin_files=[own])
    own.write_text(own.read_text() + "\n# edited\n")

    record = hfopt.run(here.config, plugin_files=[own])

    assert not any(step["cached"] for step in record.results[0]["candidates"][0]["steps"])


def test_completion_offers_what_there_is_to_use():
    assert {"run", "plan", "validate", "Terminal", "Pass"} <= {*dir(hfopt)}
    assert "engine" not in dir(hfopt)


def test_what_was_timed_on_a_busy_machine_is_marked_until_a_run_finds_it_quiet(here, monkeypatch):
    figure = {"name": "p50", "metric_config": {"warmup_num": 0, "repeat_test_num": 16}}
    metric = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [figure]}
    here.config["evaluators"]["e"]["metrics"] = [metric]
    here.config["passes"]["third"]["config"]["delay"] = 0.05

    def run(busy):
        """As if other processes used so many CPUs."""
        monkeypatch.setattr(machine, "used_by_others", lambda _: busy * time.monotonic())
        record = hfopt.run(here.config, **arguments(here), in_process=True)
        measured = here.candidate["metrics"]["latency-p50"]
        return measured.get("cpus_left"), steps(here)["measure third"]["cached"], record.summary()

    cpus = len(machine.allowed_cpus())
    first, again, quiet, last = run(cpus), run(cpus), run(0), run(0)

    assert first[:2] == (0.0, False)
    assert again[:2] == (0.0, True)
    for *_, shown in (first, again):
        assert "│ latency-p50 (!) │" in shown
        assert "latency-p50 (!): " in shown
        assert "(!) timed on a busy machine, 0.0 CPUs left: the next run measures again if it is idle then\n" in shown
    assert quiet[:2] == (None, False)
    assert last[:2] == (None, True)
    assert "(!)" not in quiet[2] + last[2]


def test_what_was_tuned_on_a_busy_machine_and_all_that_was_made_of_it_is_done_again_when_it_is_quiet(
    here, monkeypatch, caplog
):
    here.config["passes"] = {
        "tune": {"type": "Tune", "config": {"seconds": 0, "compare": True}},
        "after": {"type": "Scale", "config": {"factor": 1.0}},
    }
    made = ["tune", "after", "predict after", "score after"]

    def run(busy):
        """As if other processes used so many CPUs.

        :return: those steps that ran
        """
        monkeypatch.setattr(machine, "used_by_others", lambda _: busy * time.monotonic())
        hfopt.run(here.config, **arguments(here), in_process=True)
        return [name for name in made if name in steps(here) and not steps(here)[name]["cached"]]

    cpus = len(machine.allowed_cpus())
    assert run(cpus) == made
    assert "tune: other processes left 0.0 CPUs" in caplog.text
    assert run(cpus) == []
    assert run(0) == made
    assert "tune is done again: the machine was busy then, and is not now" in caplog.text
    assert "after is done again: what it needs is found by timing, and that was done again" in caplog.text
    assert run(0) == []


def test_what_was_made_of_an_earlier_tuning_is_not_used_with_a_later_one(here, monkeypatch):
    tune, after = (
        {"type": "Tune", "config": {"seconds": 0, "compare": True}},
        {"type": "Scale", "config": {"factor": 1.0}},
    )

    def run(busy, **passes):
        monkeypatch.setattr(machine, "used_by_others", lambda _: busy * time.monotonic())
        hfopt.run({**here.config, "passes": passes}, **arguments(here), in_process=True)
        return [name for name, step in steps(here).items() if not step["cached"]]

    run(len(machine.allowed_cpus()), tune=tune, after=after)
    assert "tune" in run(0, tune=tune)
    assert run(0, tune=tune, after=after) == ["after", "predict after", "score after"]

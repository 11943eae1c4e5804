"""What every system does: the tests that a system's plugin runs on itself.

A test module of the plugin has a subclass, whose name begins with ``Test``, with the system as the config writes it:

    class TestMine(SystemConformance):
        @pytest.fixture
        def entry(self):
            return {"type": "Mine", "config": {"option": 1}}

Needs pytest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hfopt.testing import lines
from hfopt.testing.hosts import Host

__all__ = ["LOCAL", "Project", "SystemConformance", "waited_for"]

PLUGIN = Path(lines.__file__)
LOCAL = {"type": "LocalSystem"}
TOKEN = "_".join(("hf", "a_token_that_no_step_may_see"))  # not in one piece: a bundle has this file
SECONDS = 5.0
"""After a host was killed, until nothing of its work is left."""


class Project:
    """A folder with a model, data and a config, and runs of it.

    :param arguments: of every run
    """

    def __init__(self, folder: Path, system: dict[str, Any], arguments: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.arguments = arguments
        folder.mkdir(parents=True, exist_ok=True)
        points = [[x / 50, int(x > 95)] for x in range(200)]
        (folder / "line.json").write_text('{"slope": 0.5}')
        (folder / "points.json").write_text(json.dumps(points))
        sub_types = [{"name": "accuracy"}]
        metric = {"name": "accuracy", "type": "accuracy", "backend": "test_metrics", "data_config": "points"}
        latency = {"name": "latency", "type": "latency", "data_config": "points"}
        timing = {"warmup_num": 1, "repeat_test_num": 20}
        self.config: dict[str, Any] = {
            "input_model": {"type": "TestLine", "config": {"model_path": "line.json"}},
            "data_configs": [{"name": "points", "type": "TestPoints", "params_config": {"data_file": "points.json"}}],
            "systems": {"tested": system},
            "evaluators": {
                "e": {
                    "metrics": [
                        {**metric, "sub_types": sub_types},
                        {**latency, "sub_types": [{"name": "avg", "metric_config": timing}]},
                    ]
                }
            },
            "passes": {
                "double": {"type": "TestScale", "config": {"factor": 2.0}},
                "half": {"type": "TestScale", "config": {"factor": 0.5}},
            },
            "engine": {"evaluator": "e", "host": "tested", "target": "tested"},
        }

    def behaving(self, how: str) -> Project:
        """The same with passes of which the second behaves in some way."""
        self.config["passes"]["half"] = {"type": "TestBehave", "config": {"how": how}}
        return self

    def start(self) -> subprocess.Popen[str]:
        """Begin a run."""
        (self.folder / "config.json").write_text(json.dumps(self.config, indent=1))
        command = [sys.executable, "-m", "hfopt", "run", "config.json", "-p", str(PLUGIN), *self.arguments]
        given = {**os.environ, "HF_TOKEN": TOKEN}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=given, stdout=pipe, stderr=pipe, text=True)

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        running = self.start()
        printed, told = running.communicate()
        return subprocess.CompletedProcess(running.args, running.returncode, printed, told)

    @property
    def cache(self) -> Path:
        """Where the run keeps what it has made."""
        return self.folder / ".hfopt-cache"

    @property
    def log(self) -> str:
        """What workers have printed."""
        return (self.folder / "hfopt-output" / "hfopt.log").read_text("utf-8")

    @property
    def candidate(self) -> dict[str, Any]:
        """The only candidate in run.json."""
        record = json.loads((self.folder / "hfopt-output" / "run.json").read_text("utf-8"))
        found: dict[str, Any] = record["results"][0]["candidates"][0]
        return found

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Of every artifact that was made, by its step's name."""
        found = [json.loads(file.read_text("utf-8")) for file in self.cache.glob("artifacts/*/*/manifest.json")]
        return {each["name"]: each for each in found}


def waited_for(condition: Any, seconds: float) -> bool:
    """Whether a condition has come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class SystemConformance:
    """The tests. What they start is theirs alone: a folder, a cache, processes."""

    large = 256
    """Megabytes of a model that crosses by its path."""

    @pytest.fixture
    def project(self, tmp_path: Path, entry: dict[str, Any]) -> Project:
        """A project whose host and target is the system."""
        return Project(tmp_path / "project", entry)

    @pytest.fixture
    def running(self, project: Project) -> Iterator[subprocess.Popen[str]]:
        """A run whose second pass never ends, and has begun."""
        process = project.behaving("wait").start()
        try:
            if not waited_for(lambda: self.heartbeats(project), 120):
                process.kill()
                pytest.fail(str(process.communicate()))
            yield process
        finally:  # a test's time may be over before it has begun: it must not hold the machine's lock
            process.kill()
            process.wait()

    def heartbeats(self, project: Project) -> list[str]:
        """What passes that never end have last written; a system that writes elsewhere overrides this."""
        found = []
        for file in project.cache.rglob(lines.HEARTBEAT):
            with suppress(OSError):  # it is being removed
                found.append(file.read_text())
        return found

    def left_over(self, project: Project) -> list[str]:
        """What is still alive of a project's runs besides passes: containers, jobs. None for processes."""
        return []

    # -- what is made -----------------------------------------------------------------------------------------------

    def test_it_makes_what_this_machine_makes(self, project: Project, tmp_path: Path) -> None:
        local = Project(tmp_path / "local", LOCAL)
        assert (here := local.run()).returncode == 0, here.stderr
        assert (there := project.run()).returncode == 0, there.stderr

        expected, made = local.manifests(), project.manifests()
        assert made.keys() == expected.keys()
        assert {kind: sum(each["kind"] == kind for each in made.values()) for kind in ("pass", "measure")} == {
            "pass": 2,
            "measure": 1,
        }
        for name, each in made.items():
            if each["kind"] != "measure":
                assert each["digest"] == expected[name]["digest"], name
        accuracy = "accuracy-accuracy"
        assert project.candidate["metrics"][accuracy] == local.candidate["metrics"][accuracy]
        assert project.candidate["metrics"]["latency-avg"]["value"] > 0.4

    def test_what_is_made_is_not_made_again(self, project: Project) -> None:
        assert project.run().returncode == 0

        assert (again := project.run()).returncode == 0, again.stderr
        assert all(step["cached"] for step in project.candidate["steps"])

    def test_a_large_model_crosses_by_its_path(self, project: Project) -> None:
        project.config["passes"]["double"]["config"]["megabytes"] = self.large

        assert (done := project.run()).returncode == 0, done.stderr
        assert self.large * 2**20 in project.manifests()["half"]["report"]["sizes"]

    def test_two_runs_at_once_do_not_disturb_each_other(self, project: Project) -> None:
        first, second = project.start(), project.start()
        ends = [(*process.communicate(), process.returncode) for process in (first, second)]

        assert [code for *_, code in ends] == [0, 0], ends

    def test_names_may_be_long_and_of_any_script(self, entry: dict[str, Any], tmp_path: Path) -> None:
        project = Project(tmp_path / ("Modell für alle 模型 " + "lang" * 40) / ("tief" * 50), entry)

        assert (done := project.run()).returncode == 0, done.stderr

    # -- what is told -----------------------------------------------------------------------------------------------

    def test_what_steps_print_is_in_the_log(self, project: Project) -> None:
        assert project.run().returncode == 0

        assert "scaled by 2.0\n" in project.log
        assert "scaled by 2.0, too\n" in project.log

    def test_progress_is_told_and_what_does_not_fit_is_named(self, entry: dict[str, Any], tmp_path: Path) -> None:
        host = Host(tmp_path / "host", entry, distributions=("hfopt",))
        request = host.points()
        misfit = host.points("b").model_copy(update={"distributions": {"hfopt": "99.0"}})
        try:
            first, second = host.prepared().do(request, misfit)
        finally:
            host.system.close()

        assert first.fault is None, first.fault
        assert first.manifest is not None
        assert [(each.key, each.phase) for each in host.told][:1] == [(request.key, "running")]
        assert second.fault is not None
        assert second.fault.message.startswith("hfopt 99.0 is needed where the step runs; found: ")

    # -- what goes wrong --------------------------------------------------------------------------------------------

    def failed(self, project: Project, how: str) -> dict[str, Any]:
        """The error of a run whose second pass fails."""
        done = project.behaving(how).run()
        assert done.returncode == 1, done.stderr
        error: dict[str, Any] = project.candidate["error"]
        assert error["step"] == "half"
        assert error["message"] in " ".join(done.stderr.split())
        return error

    def test_an_error_keeps_its_type_and_its_traceback_is_in_the_log(self, project: Project) -> None:
        error = self.failed(project, "raise")

        assert (error["type"], error["message"]) == ("ValueError", "ValueError: the line is crooked")
        assert 'raise ValueError("the line is crooked")' in project.log

    def test_a_refusal_keeps_its_hint(self, project: Project) -> None:
        error = self.failed(project, "refuse")

        assert (error["message"], error["hint"]) == ("the line is too long", "make it shorter")

    @pytest.mark.parametrize(("how", "said"), [("crash", "abort"), ("kill", "killed")])
    def test_a_worker_that_is_lost_fails_its_step_and_nothing_else(self, project: Project, how: str, said: str) -> None:
        error = self.failed(project, how)

        assert error["type"] == "WorkerDied"
        assert said in error["message"]
        project.behaving("tell")
        assert (done := project.run()).returncode == 0, done.stderr
        assert [step["cached"] for step in project.candidate["steps"] if step["name"] == "double"] == [True]

    def test_a_disk_that_is_full_is_a_sentence(self, project: Project) -> None:
        error = self.failed(project, "fill")

        assert "File too large" in error["message"]
        assert not [*project.cache.glob("making/*")]

    def test_what_a_step_reads_stays_as_it_is(self, project: Project) -> None:
        error = self.failed(project, "scribble")

        assert "double" in error["message"] or "Read-only file system" in error["message"]
        project.behaving("tell")
        assert (done := project.run()).returncode == 0, done.stderr
        assert json.loads((project.folder / "line.json").read_text()) == {"slope": 0.5}

    def test_steps_do_not_see_the_token(self, project: Project) -> None:
        assert (done := project.behaving("tell").run()).returncode == 0, done.stderr

        files = [file for file in project.folder.rglob("*") if file.is_file()]
        assert any(file.name == "environment.json" for file in files)
        assert [file for file in files if TOKEN.encode() in file.read_bytes()] == []

    # -- how it ends ------------------------------------------------------------------------------------------------

    def over(self, project: Project) -> bool:
        """Whether nothing of a project's runs goes on."""
        before = self.heartbeats(project)
        time.sleep(0.3)
        return self.heartbeats(project) in ([], before) and not self.left_over(project)

    def test_an_interrupt_ends_what_runs(self, project: Project, running: subprocess.Popen[str]) -> None:
        began = time.monotonic()
        running.send_signal(signal.SIGINT)

        assert running.wait(timeout=30) == 130
        assert time.monotonic() - began < SECONDS
        assert waited_for(lambda: self.over(project), SECONDS)

    def test_nothing_goes_on_when_the_host_is_killed(self, project: Project, running: subprocess.Popen[str]) -> None:
        running.kill()

        running.wait()
        assert waited_for(lambda: self.over(project), SECONDS)
        project.behaving("tell")
        assert (done := project.run()).returncode == 0, done.stderr
        assert [step["cached"] for step in project.candidate["steps"] if step["name"] == "double"] == [True]

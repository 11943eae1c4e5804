"""A project on the toy plugin, and the command that runs it."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TOY = Path(__file__).with_name("toy.py")
CONFIG: dict[str, Any] = {
    "input_model": {"type": "Line", "config": {"model_path": "line.json"}},
    "data_configs": [{"name": "points", "type": "Points", "params_config": {"data_file": "points.json"}}],
    "evaluators": {
        "e": {
            "metrics": [
                {
                    "name": "accuracy",
                    "type": "accuracy",
                    "backend": "toy_metrics",
                    "data_config": "points",
                    "sub_types": [{"name": "accuracy"}, {"name": "mean"}],
                },
                {"name": "size", "type": "size"},
            ]
        }
    },
    "passes": {
        "first": {"type": "Scale", "config": {"factor": 2.0}},
        "second": {"type": "Scale", "config": {"factor": 0.75}},
        "third": {"type": "Retune", "config": {"delay": 0.0}},
    },
    "engine": {"evaluator": "e"},
}


@dataclass
class Project:
    """A folder with a model, data and a config."""

    folder: Path
    config: dict[str, Any]
    plugin: Path = TOY
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hfopt", *arguments, "-p", str(self.plugin)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TOY_LOG": str(self.folder / "toy.log")}

    def write(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self.config, indent=1))

    def run(self, *arguments: str, command: str = "run") -> subprocess.CompletedProcess[str]:
        self.write()
        return subprocess.run(
            self.command(command, "config.json", *arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def start(self, *arguments: str, config: str = "config.json", below: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Begin a run, which ends with the test at the latest.

        :param below: a command that starts it
        """
        self.write()
        process = subprocess.Popen(
            [*below, *self.command("run", config, *arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "hfopt-output" / "run.json").read_text())

    @property
    def candidate(self) -> dict[str, Any]:
        return self.record["results"][0]["candidates"][0]

    @property
    def executed(self) -> list[str]:
        """What passes have logged, one line per execution."""
        log = self.folder / "toy.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def spans(self) -> list[tuple[float, float, str]]:
        """When passes that log it began and ended."""
        begun: dict[str, list[float]] = {}
        found = []
        for line in (self.folder / "toy.log.spans").read_text().splitlines():
            at, what, name = line.split(" ", 2)
            if what == "begin":
                begun.setdefault(name, []).append(float(at))
            else:
                found.append((begun[name].pop(), float(at), name))
        return found

    def cached(self) -> dict[str, bool]:
        return {step["name"]: step["cached"] for step in self.candidate["steps"]}


def project_in(folder: Path) -> Project:
    (folder / "line.json").write_text(json.dumps({"slope": 0.5}))
    chance = random.Random(0)
    xs = [chance.random() * 3 for _ in range(200)]
    (folder / "points.json").write_text(json.dumps([[x, int(0.5 * x + chance.random() * 0.2 > 1)] for x in xs]))
    return Project(folder, copy.deepcopy(CONFIG))


@pytest.fixture
def project(tmp_path) -> Iterator[Project]:
    project = project_in(tmp_path)
    yield project
    for process in project.started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def make_project(tmp_path_factory) -> Callable[[], Project]:
    """For what several tests look at and none changes."""
    return lambda: project_in(tmp_path_factory.mktemp("project"))


@pytest.fixture
def misbehave(project) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a config whose second pass misbehaves in the given way."""

    def run(how: str) -> subprocess.CompletedProcess[str]:
        project.config["passes"] = {
            "first": project.config["passes"]["first"],
            "bad": {"type": "Misbehave", "config": {"how": how}},
        }
        return project.run()

    return run

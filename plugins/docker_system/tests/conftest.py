"""A real engine, and an image with this interpreter: no registry is needed. Packages come from this environment."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hfopt_docker_system import testing


@pytest.fixture(scope="session")
def engine():
    with testing.engine() as client:
        yield client


@dataclass
class Project:
    """A folder with a text as its model, and a config that does something with it in a container."""

    folder: Path
    config: dict[str, Any]

    @property
    def local(self) -> dict[str, Any]:
        return self.config["systems"]["box"]["config"]["local_docker_config"]

    def limit(self, **params: Any) -> None:
        self.local["run_params"] |= params

    def do(self, *acts: str) -> None:
        self.config["passes"] = {act: {"type": "Act", "config": {"do": act}} for act in acts}

    def command(self) -> list[str]:
        (self.folder / "config.json").write_text(json.dumps(self.config))
        plugin = Path(__file__).with_name("inside.py")
        return [sys.executable, "-m", "hfopt", "run", "config.json", "-p", str(plugin)]

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        given = os.environ | environment
        return subprocess.run(self.command(), cwd=self.folder, env=given, capture_output=True, text=True)

    def candidate(self) -> dict[str, Any]:
        return json.loads((self.folder / "hfopt-output/run.json").read_text())["results"][0]["candidates"][0]

    def report(self, name: str) -> dict[str, Any]:
        key = next(step["key"] for step in self.candidate()["steps"] if step["name"] == name)
        manifest = self.folder / ".hfopt-cache/artifacts" / key[:2] / key / "manifest.json"
        return json.loads(manifest.read_text())["report"]


@pytest.fixture(scope="session")
def box(python_image) -> dict[str, Any]:
    """The system as an entry of a config, with this interpreter and its packages."""
    return {"type": "Docker", "config": testing.as_here(python_image)}


@pytest.fixture
def project(tmp_path, box) -> Project:
    """A project whose passes run in a container, with this interpreter and its packages."""
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "note.txt").write_text("note ")
    config = {
        "input_model": {"type": "Note", "config": {"model_path": "inputs/note.txt"}},
        "systems": {"box": copy.deepcopy(box)},
        "engine": {"host": "box", "target": "box"},
    }
    return Project(tmp_path, config)


@pytest.fixture(scope="session")
def python_image(engine):
    with testing.python_image(engine) as name:
        yield name

"""Runs whose steps are in another environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from hfopt.testing.systems import LOCAL, Project, SystemConformance
from hfopt_python_environment.requirements import of_core

CORE = [each.name for each in of_core()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory, environment_maker) -> Path:
    """One with what the core requires, and without hfopt."""
    return environment_maker(tmp_path_factory.mktemp("environments") / "core", CORE)


def system(path: Path | str, **options) -> dict:
    return {"type": "PythonEnvironment", "config": {"python_environment_path": str(path), **options}}


class TestPythonEnvironment(SystemConformance):
    @pytest.fixture
    def entry(self, environment):
        return system(environment)


def test_what_was_made_here_is_shared_where_the_packages_are_the_same(environment, tmp_path):
    project = Project(tmp_path / "project", LOCAL)
    assert project.run().returncode == 0
    project.config["systems"]["tested"] = system(environment)

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert all(step["cached"] for step in project.candidate["steps"])


def test_the_worker_has_variables_of_the_config_and_none_of_this_python(environment, tmp_path, monkeypatch):
    for name in ("PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("SOME_TOKEN", "a secret of mine")
    variables = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": "/modules"}
    entry = system(environment / "bin", environment_variables=variables, prepend_to_path=["tools"])
    project = Project(tmp_path / "project", entry).behaving("tell")
    (project.folder / "tools").mkdir()

    done = project.run()

    assert done.returncode == 0, done.stderr
    worker = json.loads((project.folder / "hfopt-output" / "best" / "environment.json").read_text())
    bundle, modules = worker["PYTHONPATH"].split(os.pathsep)
    assert (Path(bundle, "hfopt", "worker", "serve.py").is_file(), modules) == (True, "/modules")
    assert worker["OMP_WAIT_POLICY"] == "PASSIVE"
    assert worker["PATH"].split(os.pathsep)[:2] == [str(project.folder / "tools"), str(environment / "bin")]
    assert worker["PYTHONNOUSERSITE"] == "1"
    assert worker.keys().isdisjoint({"PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "SOME_TOKEN"})


def test_an_environment_that_lacks_a_package_is_refused_before_anything_runs(environment_maker, tmp_path):
    lacking = environment_maker(tmp_path / "e", [name for name in CORE if name not in ("rich", "numpy")])

    done = Project(tmp_path / "project", system("../e")).run()

    python = tmp_path / "project" / ".." / "e" / "bin" / "python"
    needed = {each.name: each.specifier for each in of_core()}
    assert lacking.is_dir()
    assert done.returncode == 3
    assert done.stderr.splitlines()[-2:] == [
        f"hfopt: {python} lacks what hfopt needs: "
        f"numpy: found none, needed {needed['numpy']}; rich: found none, needed {needed['rich']}",
        f"  hint: uv pip install --python {python} 'numpy{needed['numpy']}' 'rich{needed['rich']}'",
    ]


def test_a_package_that_a_plugin_needs_and_is_not_there_is_told_before_anything_runs(environment, tmp_path):
    config = {
        "input_model": {"type": "ONNXModel", "config": {"model_path": "model.onnx"}},
        "passes": {"int8": {"type": "OnnxDynamicQuantization"}},
        "engine": {"host": system(environment)},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.onnx").touch()
    command = [sys.executable, "-m", "hfopt", "run", "config.json"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    needed = next(line for line in metadata.requires("hfopt-onnx-model") if line.startswith("onnx>"))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-2:] == [
        f"hfopt: packages where the step runs don't fit: {needed} is needed by hfopt-onnx-model; found: none",
        f"  hint: {environment}/bin/python -m pip install '{needed}'",
    ]

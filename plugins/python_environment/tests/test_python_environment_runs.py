"""Runs whose steps are in another environment, on the core's toy plugin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from hfopt_python_environment.requirements import of_core

TOY = Path(__file__).parents[3] / "tests" / "core" / "toy.py"
CORE = [each.name for each in of_core()]


@pytest.fixture(scope="module")
def core_environment(tmp_path_factory, environment_maker) -> Path:
    """An environment with what the core requires, and without hfopt."""
    return environment_maker(tmp_path_factory.mktemp("environments") / "core", CORE)


@pytest.fixture
def run(tmp_path):
    """Runs a toy config in a folder, with the system `other` of these options as host and target."""

    def run_with(options: dict[str, Any], *arguments: str, **engine: str) -> subprocess.CompletedProcess[str]:
        command = write(tmp_path, options, **{"host": "other", "target": "other", **engine})
        return subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)

    return run_with


def write(folder: Path, options: dict[str, Any], *, how: str = "show_environment", **engine: str) -> list[str]:
    metric = {"name": "accuracy", "type": "accuracy", "backend": "toy_metrics", "data_config": "points"}
    config = {
        "input_model": {"type": "Line", "config": {"model_path": "line.json"}},
        "systems": {"other": {"type": "PythonEnvironment", "config": options}},
        "data_configs": [{"name": "points", "type": "Points", "params_config": {"data_file": "points.json"}}],
        "evaluators": {"e": {"metrics": [{**metric, "sub_types": [{"name": "accuracy"}]}]}},
        "passes": {
            "scale": {"type": "Scale", "config": {"factor": 2.0}},
            "misbehave": {"type": "Misbehave", "config": {"how": how}},
        },
        "engine": {"evaluator": "e", **engine},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "line.json").write_text('{"slope": 0.5}')
    (folder / "points.json").write_text("[[1.0, 0], [3.0, 1]]")
    return [sys.executable, "-m", "hfopt", "run", "config.json", "-p", str(TOY)]


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "hfopt-output" / "run.json").read_text())


def log(folder: Path) -> str:
    return (folder / "hfopt-output" / "hfopt.log").read_text()


def variables(folder: Path) -> dict[str, str]:
    """Of the worker, as the pass has printed them."""
    return eval(re.search(r"^\{'.*\}$", log(folder), re.MULTILINE)[0])


def test_steps_run_there_with_the_hfopt_of_here(run, core_environment, tmp_path):
    done = run({"python_environment_path": str(core_environment)})

    assert done.returncode == 0, done.stderr
    packages = record(tmp_path)["environment"]["packages"]
    assert packages.keys() == {"other"}
    assert packages["other"]["numpy"] == metadata.version("numpy")
    worker = variables(tmp_path)
    assert worker["PATH"].split(os.pathsep)[0] == str(core_environment / "bin")
    assert Path(worker["PYTHONPATH"], "hfopt", "worker", "serve.py").is_file()


def test_what_was_made_here_is_shared_where_the_packages_are_the_same(run, core_environment, tmp_path):
    options = {"python_environment_path": str(core_environment)}
    assert run(options, host="local_system", target="local_system").returncode == 0
    (candidate,) = record(tmp_path)["results"][0]["candidates"]

    done = run(options)

    assert done.returncode == 0, done.stderr
    (again,) = record(tmp_path)["results"][0]["candidates"]
    assert [step["key"] for step in again["steps"]] == [step["key"] for step in candidate["steps"]]
    assert all(step["cached"] for step in again["steps"])


def test_the_worker_has_variables_of_the_config_and_none_of_this_python(run, core_environment, tmp_path, monkeypatch):
    for name in ("PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("SOME_TOKEN", "a secret of mine")
    (tmp_path / "tools").mkdir()
    options = {"environment_variables": {"OMP_WAIT_POLICY": "PASSIVE"}, "prepend_to_path": ["tools"]}

    done = run({"python_environment_path": str(core_environment / "bin"), **options})

    assert done.returncode == 0, done.stderr
    worker = variables(tmp_path)
    assert worker["OMP_WAIT_POLICY"] == "PASSIVE"
    assert worker["PATH"].split(os.pathsep)[:2] == [str(tmp_path / "tools"), str(core_environment / "bin")]
    assert worker["PYTHONNOUSERSITE"] == "1"
    assert worker.keys().isdisjoint({"PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "SOME_TOKEN"})
    assert "a secret of mine" not in log(tmp_path)


def test_an_environment_that_lacks_a_package_is_refused_before_anything_runs(run, environment_maker, tmp_path):
    environment = environment_maker(tmp_path / "e", [name for name in CORE if name not in ("rich", "numpy")])

    done = run({"python_environment_path": "e"})

    python = environment / "bin" / "python"
    needed = {each.name: each.specifier for each in of_core()}
    assert done.returncode == 3
    assert done.stderr.splitlines()[-2:] == [
        f"hfopt: {python} lacks what hfopt needs: "
        f"numpy: found none, needed {needed['numpy']}; rich: found none, needed {needed['rich']}",
        f"  hint: uv pip install --python {python} 'numpy{needed['numpy']}' 'rich{needed['rich']}'",
    ]


def test_a_package_that_a_plugin_needs_and_is_not_there_is_told_before_anything_runs(core_environment, tmp_path):
    other = {"type": "PythonEnvironment", "config": {"python_environment_path": str(core_environment)}}
    config = {
        "input_model": {"type": "ONNXModel", "config": {"model_path": "model.onnx"}},
        "passes": {"int8": {"type": "OnnxDynamicQuantization"}},
        "engine": {"host": other},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.onnx").touch()
    command = [sys.executable, "-m", "hfopt", "run", "config.json"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    needed = next(line for line in metadata.requires("hfopt-onnx-model") if line.startswith("onnx>"))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-2:] == [
        f"hfopt: packages where the step runs don't fit: {needed} is needed by hfopt-onnx-model; found: none",
        f"  hint: {core_environment}/bin/python -m pip install '{needed}'",
    ]


def test_a_crash_there_is_a_failed_step(run, core_environment, tmp_path):
    done = run({"python_environment_path": str(core_environment)}, how="segfault")

    assert done.returncode == 1
    assert "the worker was killed by SIGSEGV (a crash in native code)" in done.stderr


def test_an_interrupt_ends_the_worker_there(core_environment, tmp_path):
    command = write(tmp_path, {"python_environment_path": str(core_environment)}, host="other", how="hang")
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while "misbehave: begins" not in (log(tmp_path) if (tmp_path / "hfopt-output" / "hfopt.log").exists() else ""):
        time.sleep(0.05)
        assert process.poll() is None, process.stderr.read()

    process.send_signal(signal.SIGINT)

    assert process.wait(10) == 130
    process.stderr.close()
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert str(tmp_path / ".hfopt-cache") not in listed

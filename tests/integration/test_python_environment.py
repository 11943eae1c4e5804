"""A managed environment with another ONNX Runtime, as target of real models."""

from __future__ import annotations

from importlib import metadata

import pytest

OTHER = "1.27.0"


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_target_with_another_onnx_runtime_has_figures_of_its_own_and_run_json_tells_both_versions(thread):
    assert thread.run().returncode == 0
    here = thread.steps()
    options = {"managed": True, "requirements": [f"onnxruntime=={OTHER}"]}
    thread.config["systems"] = {"older": {"type": "PythonEnvironment", "config": options}}
    thread.config["engine"]["target"] = "older"

    done = thread.run()

    assert done.returncode == 0, done.stderr
    packages = thread.record()["environment"]["packages"]
    assert packages["older"]["onnxruntime"] == OTHER
    assert packages["local_system"]["onnxruntime"] == metadata.version("onnxruntime") != OTHER
    there = thread.steps()
    figures = {name for name in there if name.startswith(("predict tuning", "score tuning", "measure"))}
    assert figures
    assert not any(there[name]["cached"] or there[name]["key"] == here[name]["key"] for name in figures)
    assert all(there[name]["cached"] for name in ("conversion", "fusion", "quantization"))
    assert f"onnxruntime=={OTHER}" in done.stderr
    again = thread.run()
    assert again.returncode == 0, again.stderr
    assert all(step["cached"] for name, step in thread.steps().items() if not name.startswith("measure"))
    assert "makes an environment" not in again.stderr

"""Two ONNX Runtimes in two environments, one as host and one as target: they never share a figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OTHER = "1.27.0"
SYSTEM = Path(__file__).with_name("far_runtime.py")


@pytest.fixture(scope="module")
def other_runtime(tmp_path_factory) -> Path:
    """A folder with a real second ONNX Runtime."""
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, f"onnxruntime=={OTHER}"],
        check=True,
    )
    return folder


@pytest.mark.timeout(300)
def test_a_target_with_another_onnx_runtime_has_figures_of_its_own(thread, other_runtime):
    del thread.config["passes"]["tuning"]
    assert thread.run("-p", str(SYSTEM)).returncode == 0
    here = thread.steps()
    thread.config["systems"] = {"far": {"type": "FarRuntime", "config": {"packages": str(other_runtime)}}}
    thread.config["engine"]["target"] = "far"

    done = thread.run("-p", str(SYSTEM))

    assert done.returncode == 0, done.stderr
    there = thread.steps()
    shared = {name for name, step in there.items() if step["cached"]}
    onnx = {name for name in there if name.startswith(("predict quantization", "score quantization", "measure"))}
    assert onnx
    assert shared & onnx == set()
    assert {"conversion", "fusion", "quantization", "predict input_model"} <= shared
    assert all(there[name]["key"] != here[name]["key"] for name in onnx)
    versions = {name: onnx_runtimes(thread.folder, there[name]["key"]) for name in onnx if "score" not in name}
    assert all(OTHER in found for found in versions.values()), versions


def onnx_runtimes(folder: Path, key: str) -> set[str]:
    """The versions of ONNX Runtime that a step's recipe names."""
    manifest = json.loads((folder / ".hfopt-cache" / "artifacts" / key[:2] / key / "manifest.json").read_text())
    return {each["onnxruntime"] for each in manifest["recipe"]["versions"].values() if "onnxruntime" in each}

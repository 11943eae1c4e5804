"""What a run has made is carried to another folder, and a run goes on there: real models, equal digests."""

from __future__ import annotations

import copy
import shutil
import subprocess

import pytest


@pytest.mark.timeout(300)
def test_a_run_goes_on_under_another_path_from_what_was_made_here(finished_once, tiny_model, tmp_path):
    here, there = finished_once, tmp_path / "there"
    there.mkdir()
    shutil.copytree(tiny_model, there / "a model")
    shutil.copy(here.folder / "rows.csv", there / "rows.csv")
    elsewhere = type(here)(there, copy.deepcopy(here.config))
    elsewhere.config["input_model"]["config"]["model_path"] = "a model"
    made = ["input_model", "data rows", "conversion", "fusion", "quantization", "predict input_model"]

    export = here.command("cache", "export", *made, "--to", str(tmp_path / "parcel"), "--config", "config.json")
    subprocess.run(export, cwd=here.folder, check=True)
    adopt = here.command("cache", "adopt", str(tmp_path / "parcel"), "--cache-dir", str(there / ".hfopt-cache"))
    subprocess.run(adopt, cwd=there, check=True)
    done = elsewhere.run()

    assert done.returncode == 0, done.stderr
    steps = elsewhere.steps()
    assert {name for name, step in steps.items() if step["cached"]} == set(made)
    repeatable = [name for name in steps if name not in ("tuning", "measure tuning")]
    assert [elsewhere.digest(name) for name in repeatable] == [here.digest(name) for name in repeatable]
    assert metrics_of(elsewhere) == metrics_of(here)


def metrics_of(thread):
    """What does not depend on the machine's mood."""
    metrics = thread.record()["results"][0]["candidates"][0]["metrics"]
    return {key: metric for key, metric in metrics.items() if not key.startswith("latency")}

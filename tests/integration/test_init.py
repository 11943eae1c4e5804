"""From a model's folder and a csv to a measured model, without a config of the user's."""

from __future__ import annotations

import subprocess
import sys


def test_what_init_writes_for_a_model_and_its_rows_runs_as_it_is(thread, tiny_model):
    command = [sys.executable, "-m", "hfopt", "init", str(tiny_model), "--data", "rows.csv", "-o", "mine.json"]

    made = subprocess.run(command, cwd=thread.folder, capture_output=True, text=True)
    done = subprocess.run([sys.executable, "-m", "hfopt", "run", "mine.json"], cwd=thread.folder, capture_output=True)

    assert (made.returncode, made.stderr) == (0, "")
    assert "next: hfopt run mine.json" in made.stdout
    assert done.returncode == 0, done.stderr
    candidate = thread.record()["results"][0]["candidates"][0]
    assert list(candidate["metrics"]) == ["accuracy-accuracy", "accuracy-f1", "latency-p50", "size-bytes"]
    assert list((thread.folder / "hfopt-output" / "best").glob("*.onnx"))

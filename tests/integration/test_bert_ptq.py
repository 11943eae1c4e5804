"""examples/bert_ptq as it stands, on a hub that serves a small BERT and a small MRPC under those names."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "examples" / "bert_ptq" / "config.json"
CARD = b"""---
configs:
- config_name: mrpc
  data_files:
  - {split: train, path: mrpc/train-*}
  - {split: validation, path: mrpc/validation-*}
- config_name: sst2
  data_files:
  - {split: validation, path: sst2/validation-*}
---
"""
WORDS = ("good", "bad", "film", "plot", "actor", "scene", "dull", "slow", "quick", "the", "a", "never", "story", "end")


def mrpc(rows: int) -> bytes:
    """Pairs of sentences with a label, as parquet."""
    import pyarrow
    from pyarrow import parquet

    chance = random.Random(3)

    def sentence():
        return " ".join(chance.choices(WORDS, k=chance.randint(4, 12)))

    table = pyarrow.table(
        {
            "sentence1": [sentence() for _ in range(rows)],
            "sentence2": [sentence() for _ in range(rows)],
            "label": [chance.randint(0, 1) for _ in range(rows)],
            "idx": list(range(rows)),
        }
    )
    written = io.BytesIO()
    parquet.write_table(table, written)
    return written.getvalue()


@pytest.fixture
def run(hub, tiny_model, tmp_path):
    """Runs the example; its cache and output lie in the current folder."""
    hub.add_model("Intel/bert-base-uncased-mrpc", tiny_model)
    hub.add_dataset(
        "glue",
        {
            "README.md": CARD,
            "mrpc/train-00000-of-00001.parquet": mrpc(8),
            "mrpc/validation-00000-of-00001.parquet": mrpc(64),
            "sst2/validation-00000-of-00001.parquet": b"not asked for",
        },
    )
    command = [sys.executable, "-m", "hfopt", "run", str(CONFIG)]
    return lambda: subprocess.run(
        command, cwd=tmp_path, env=os.environ | dict(hub.environment), capture_output=True, text=True
    )


@pytest.mark.timeout(300)
def test_the_example_reaches_its_goals_on_the_cpu_and_says_what_openvino_needs(run, hub, tmp_path):
    done = run()

    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "models" / "bert_ptq_cpu" / "run.json").read_text())
    assert record["status"] == "succeeded"
    (result,) = record["results"]
    candidate = result["candidates"][0]
    assert candidate["goals_met"] is True
    assert list(candidate["metrics"]) == [
        "accuracy-accuracy",
        "accuracy-f1",
        "latency-avg",
        "latency-max",
        "latency-min",
        "throughput-avg",
        "throughput-max",
        "throughput-min",
    ]
    assert candidate["metrics"]["accuracy-accuracy"]["n"] == 64
    (skipped,) = record["skipped_accelerators"]
    assert skipped["execution_provider"] == "OpenVINOExecutionProvider"
    assert "OpenVINOExecutionProvider" in skipped["reason"]
    assert "note: cpu, OpenVINOExecutionProvider: skipped: " in done.stderr
    for unwanted in ("sst2", "train-"):
        assert not any(unwanted in request.path for request in hub.requests if "resolve" in request.path)
    again = run()
    assert again.returncode == 0
    steps = json.loads((tmp_path / "models" / "bert_ptq_cpu" / "run.json").read_text())["results"][0]["candidates"][0]
    assert all(step["cached"] for step in steps["steps"])

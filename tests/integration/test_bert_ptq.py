"""examples/bert_ptq as it stands, on a hub that serves a small BERT and a small MRPC under those names."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from hfopt.config.document import read
from hfopt_docker_system.container import OWNER
from hfopt_docker_system.testing import as_here, python_image
from hfopt_docker_system.testing import engine as running_engine
from hfopt_hf_hub.testing.hub import Hub

KILLS = int(os.environ.get("HFOPT_KILLS", "3"))
CONFIG = Path(__file__).parents[2] / "examples" / "bert_ptq" / "config.json"
EMPTY: Mapping[str, str] = MappingProxyType({})
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


def pairs(rows: int, seed: int) -> dict[str, list[Any]]:
    """Pairs of sentences; the label is whether they say good more often than bad."""
    chance = random.Random(seed)
    sentences = [[chance.choices(WORDS, k=chance.randint(4, 12)) for _ in range(2)] for _ in range(rows)]
    return {
        "sentence1": [" ".join(first) for first, _ in sentences],
        "sentence2": [" ".join(second) for _, second in sentences],
        "label": [int((both := first + second).count("good") > both.count("bad")) for first, second in sentences],
        "idx": list(range(rows)),
    }


def parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), written)
    return written.getvalue()


@pytest.fixture(scope="module")
def small_bert(tiny_model, tmp_path_factory) -> Path:
    """The tiny model, fitted in a second or two so that its accuracy and f1 tell a good copy from a bad one."""
    import torch
    from transformers import BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("small") / "bert"
    tokenizer = BertTokenizerFast.from_pretrained(tiny_model)
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(tiny_model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(120):
        columns = pairs(64, seed=1_000 + step)
        encoded = tokenizer(columns["sentence1"], columns["sentence2"], padding=True, return_tensors="pt")
        model(**encoded, labels=torch.tensor(columns["label"])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[Hub]:
    """One hub for all tests of this module."""
    with Hub(tmp_path_factory.mktemp("hub") / "huggingface") as served:
        yield served


@pytest.fixture(scope="module")
def start(hub, small_bert):
    """Starts the example in a folder, where its cache and output lie."""
    hub.add_model("Intel/bert-base-uncased-mrpc", small_bert)
    hub.add_dataset(
        "glue",
        {
            "README.md": CARD,
            "mrpc/train-00000-of-00001.parquet": parquet(pairs(8, seed=1)),
            "mrpc/validation-00000-of-00001.parquet": parquet(pairs(64, seed=2)),
            "sst2/validation-00000-of-00001.parquet": b"not asked for",
        },
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def start(folder: Path, *command: str, more: Mapping[str, str] = EMPTY) -> subprocess.Popen[str]:
        command = (sys.executable, "-m", "hfopt", *(command or ("run", str(CONFIG))))
        return subprocess.Popen(command, cwd=folder, env={**os.environ, **hub.environment, **more}, **pipes)

    return start


@dataclass(frozen=True)
class Undisturbed:
    """A run that came to its end at once."""

    folder: Path
    stderr: str
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    stderr = ended(start(folder))
    return Undisturbed(folder, stderr, time.monotonic() - began)


def ended(process: subprocess.Popen[str]) -> str:
    """What a run that succeeded wrote to stderr."""
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stdout + stderr
    return stderr


def record_in(folder: Path):
    return json.loads((folder / "models" / "bert_ptq_cpu" / "run.json").read_text())


def made_in(folder: Path) -> dict[str, object]:
    """What kills must not change: digests of all that is made but by what measures, and the quality."""
    candidate = record_in(folder)["results"][0]["candidates"][0]

    def digest(key: str) -> str:
        return json.loads((folder / "cache" / "artifacts" / key[:2] / key / "manifest.json").read_text())["digest"]

    measuring = ("perf_tuning", "measure perf_tuning")
    digests = {step["name"]: digest(step["key"]) for step in candidate["steps"] if step["name"] not in measuring}
    return digests | {name: candidate["metrics"][name]["value"] for name in ("accuracy-accuracy", "accuracy-f1")}


@pytest.mark.timeout(300)
def test_the_example_reaches_its_goals_on_the_cpu_and_says_what_openvino_needs(undisturbed, start, hub):
    record = record_in(undisturbed.folder)
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
    for model in (result["input_model"], candidate):
        assert min(model["metrics"][f"accuracy-{name}"]["value"] for name in ("accuracy", "f1")) > 0.9
    (skipped,) = record["skipped_accelerators"]
    assert skipped["execution_provider"] == "OpenVINOExecutionProvider"
    assert "OpenVINOExecutionProvider" in skipped["reason"]
    assert "note: cpu, OpenVINOExecutionProvider: skipped: " in undisturbed.stderr
    for unwanted in ("sst2", "train-"):
        assert not any(unwanted in request.path for request in hub.requests if "resolve" in request.path)
    ended(start(undisturbed.folder))
    assert all(step["cached"] for step in record_in(undisturbed.folder)["results"][0]["candidates"][0]["steps"])


@pytest.mark.timeout(180 + 60 * KILLS)
def test_kills_at_random_moments_change_neither_the_models_nor_their_quality(undisturbed, start, tmp_path):
    """As many kills as HFOPT_KILLS says, over as many runs as they take: a run goes on until it is done."""
    expected = made_in(undisturbed.folder)
    chance = random.Random(KILLS)
    folders = fresh_folders(tmp_path)
    folder = next(folders)
    for _ in range(KILLS):
        process = start(folder)
        try:
            process.communicate(timeout=chance.uniform(0, undisturbed.seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            ended(start(folder, "cache", "verify", "--cache-dir", "cache"))
        else:
            assert made_in(folder) == expected
            folder = next(folders)
    ended(start(folder))
    assert made_in(folder) == expected


def made_so_far(folder: Path) -> set[str]:
    """The names of the steps that are finished."""
    return {json.loads(each.read_text())["name"] for each in folder.glob("cache/artifacts/*/*/manifest.json")}


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_run_in_a_container_that_is_killed_is_finished_by_the_next_and_leaves_nothing(undisturbed, start, tmp_path):
    def containers():
        return engine.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)

    with running_engine() as engine, python_image(engine) as image:
        config = read(CONFIG).value
        config["systems"]["box"] = {"type": "Docker", "config": as_here(image)}
        config["engine"]["host"] = "box"
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        process = start(tmp_path, "run", str(file))
        while process.poll() is None and "conversion" not in made_so_far(tmp_path):
            time.sleep(0.05)
        assert process.poll() is None
        assert containers()

        process.kill()
        process.communicate()
        time.sleep(5)
        assert not containers()
        stderr = ended(start(tmp_path, "run", str(file)))

        assert not containers()
    steps = {step["name"]: step["cached"] for step in record_in(tmp_path)["results"][0]["candidates"][0]["steps"]}
    assert (steps["conversion"], steps["quantization"]) == (True, False), stderr
    assert made_in(tmp_path) == made_in(undisturbed.folder)
    ended(start(tmp_path, "cache", "verify", "--cache-dir", "cache"))


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_jobs_of_azureml_make_what_this_machine_makes(undisturbed, start, azureml_emulator, tmp_path):
    from azureml_emulator.places import GROUP, SUBSCRIPTION, WORKSPACE

    config = read(CONFIG).value
    of_jobs = {"aml_compute": "cpu-cluster", "aml_environment_config": {"name": "local", "version": "1"}}
    accelerators = config["systems"]["local_system"]["config"]
    config["azureml_client"] = {"subscription_id": SUBSCRIPTION, "resource_group": GROUP, "workspace_name": WORKSPACE}
    config["systems"] = {"cloud": {"type": "AzureML", "config": {**of_jobs, **accelerators}}}
    config["engine"] |= {"host": "cloud", "target": "cloud"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))

    ended(start(tmp_path, "run", str(file), more=azureml_emulator.variables()))

    record = record_in(tmp_path)
    assert record["status"] == "succeeded"
    assert made_in(tmp_path) == made_in(undisturbed.folder)
    (skipped,) = record["skipped_accelerators"]
    assert skipped["execution_provider"] == "OpenVINOExecutionProvider"
    assert {job.status for job in azureml_emulator.jobs.values()} == {"Completed"}
    assert {times for name, times in azureml_emulator.uploads.items() if "/hfopt/" in name} == {1}
    secret = azureml_emulator.identities.client_secret.encode()
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and secret in each.read_bytes()]


def fresh_folders(parent: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        folder = parent / str(number)
        folder.mkdir()
        yield folder


SEARCH_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "search.md"


@pytest.mark.timeout(300)
def test_the_example_with_a_search_is_the_best_of_three_trials(start, tmp_path):
    config = read(CONFIG).value
    config["engine"] |= json.loads(SEARCH_PAGE.read_text().split("```json\n")[1].split("```")[0])
    config["passes"]["transformers_optimization"]["disable_search"] = True
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))

    process = start(tmp_path, "run", str(file))
    stdout, stderr = process.communicate()

    record = record_in(tmp_path)
    (result,) = record["results"]
    assert [each["execution_provider"] for each in record["skipped_accelerators"]] == ["OpenVINOExecutionProvider"]
    assert (process.returncode == 0) is (record["status"] == "succeeded"), stdout + stderr
    points = [tuple(each["choices"].values()) for each in result["candidates"]]
    assert len(set(points)) == len(points) == 3
    assert all(key.startswith("passes.quantization.") for each in result["candidates"] for key in each["choices"])
    best = next(each for each in result["candidates"] if each["id"] == result["best"])
    assert best["status"] == "succeeded"
    assert (tmp_path / "models" / "bert_ptq_cpu" / "best" / "model.json").is_file()
    assert "what was tried" in stdout
    conversions = {
        step["key"] for each in result["candidates"] for step in each["steps"] if step["name"] == "conversion"
    }
    assert len(conversions) == 1

"""The best model of a run becomes an asset of a workspace or registry, once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

DIMENSIONS = ["batch", 4]
BLOBS = "*.blob.core.windows.net"
PROGRAM = """
import json, sys
from pathlib import Path
from hfopt import PreconditionFailed, RankedModel
from hfopt.discovery.plugins import Plugins

client, kind, options, best = json.loads(sys.argv[1])
cls = Plugins.discover().find("hfopt_packagers", kind).load()
packager = cls(cls.Config.model_validate_json(json.dumps({"azureml_client": client, **options})))
candidate = {"id": "c", "steps": [], "size_bytes": 1, "goals_met": True, "metrics": {}}
model = RankedModel(1, candidate, {"device": "cpu", "execution_provider": "CPUExecutionProvider"}, Path(best))
try:
    print(packager.package("given", [model], {"hfopt": "0"}, Path(best).parent).read_text())
except PreconditionFailed as failure:
    print(json.dumps({"message": failure.message, "hint": failure.hint}))
"""


@pytest.fixture
def run(azureml_emulator, client, tmp_path):
    """Runs a tiny ONNX model through one pass; returns what was printed, and the receipts by name."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weights = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4) / 16, "w")
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, DIMENSIONS) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", shapes[:1], shapes[1:], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    data = {"input_names": ["x"], "input_shapes": [[1, 4]]}
    metric = {"name": "l", "type": "latency", "data_config": "rows", "sub_types": [{"name": "avg"}]}

    def run_config(*packaging, **section):
        config = {
            "azureml_client": {**client, **section},
            "input_model": {"type": "ONNXModel", "config": {"model_path": "m.onnx"}},
            "data_configs": [{"name": "rows", "type": "DummyDataContainer", "params_config": data}],
            "evaluators": {"e": {"metrics": [metric]}},
            "passes": {"convert": {"type": "OnnxOpVersionConversion", "config": {"target_opset": 18}}},
            "engine": {"evaluator": "e", "packaging_config": list(packaging)},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "hfopt", "run", "config.json"]
        environment = azureml_emulator.client_env()
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)
        made = (tmp_path / "hfopt-output").glob("*.azureml.json")
        return done, {file.name.partition(".")[0]: json.loads(file.read_text()) for file in made}, tmp_path

    return run_config


@pytest.fixture
def best(tmp_path):
    """A model of two files, the larger of which is sent in several blocks."""
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 40_000)
    return folder


@pytest.fixture
def package(azureml_emulator, client, best):
    """Registers a model under the name ``given``; returns the receipt, or what was said instead."""

    def register(kind="AzureMLModels", **options):
        command = [sys.executable, "-c", PROGRAM, json.dumps([client, kind, options, str(best)])]
        environment = azureml_emulator.client_env()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return register


def stored(emulator, kind, version="1", registry=None):
    """The files of what was registered, by path."""
    holder = emulator.workspace.assets if registry is None else emulator.workspace.registries[registry]
    place = emulator.workspace.resolve(holder.get(kind, "given", version)["properties"][f"{kind[:5].rstrip('s')}Uri"])
    container = emulator.blobs.container(place.account, place.container)
    names = container.list_blob_names(name_starts_with=f"{place.path}/")
    return {name.removeprefix(f"{place.path}/"): container.download_blob(name).readall() for name in names}


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("kind", "plural", "registry"),
    [("AzureMLModels", "models", None), ("AzureMLData", "data", None), ("AzureMLModels", "models", "ours")],
)
def test_what_goes_wrong_while_it_is_sent_is_overcome(azureml_emulator, package, best, kind, plural, registry):
    from azureml_emulator.faults import Fault

    azureml_emulator.workspace.add_registry("ours")
    block = {"method": "PUT", "host": BLOBS, "path": "*/model.onnx"}
    faults = [
        azureml_emulator.faults.add(fault)
        for fault in (
            Fault(**block, after=1_000_000, times=2),
            Fault(**block, cut="answer", times=1),
            Fault(**block, status=403, code="AuthenticationFailed", times=1),
            Fault(every=5, status=500, times=6),
            Fault(every=5, status=429, headers={"Retry-After": "0"}, times=6),
        )
    ]

    made = package(kind, **({} if registry is None else {"registry_name": registry}))

    assert made["version"] == "1"
    assert stored(azureml_emulator, plural, registry=registry) == files(best)
    assert all(fault.struck for fault in faults)
    assert max(azureml_emulator.uploads.values()) == 1


def test_an_upload_that_never_succeeds_is_one_sentence_and_registers_nothing(azureml_emulator, package):
    from azureml_emulator.faults import Fault

    azureml_emulator.faults.add(Fault(method="PUT", host=BLOBS, path="*/model.onnx", after=100))

    said = package()

    assert said["message"] == "Azure can't be reached for model given after 4 attempts"
    assert ("models", "given") not in azureml_emulator.workspace.assets.versions


def test_a_model_and_data_of_the_same_content_share_what_was_sent(azureml_emulator, package):
    package()
    sent = dict(azureml_emulator.uploads)
    package("AzureMLData")

    assert azureml_emulator.uploads == sent


def test_a_version_that_is_there_with_other_content_is_refused_before_anything_is_sent(azureml_emulator, package, best):
    package(version=3)
    (best / "model.json").write_text("other")
    sent = dict(azureml_emulator.uploads)
    said = package(version=3)

    assert said["message"] == "model given has a version 3 already, with other content"
    assert azureml_emulator.uploads == sent


def test_a_registry_gets_the_version_after_its_last(azureml_emulator, package, best):
    azureml_emulator.workspace.add_registry("ours")
    versions = [package(registry_name="ours")["version"]]
    (best / "model.json").write_text("other")
    versions += [package(registry_name="ours")["version"], package("AzureMLData", registry_name="ours")["version"]]

    assert versions == ["1", "2", "1"]


def test_the_best_model_is_registered_once_with_its_figures(azureml_emulator, run):
    wanted = [
        {"type": "AzureMLModels", "name": "best-model", "config": {"tags": {"team": "a"}}},
        {"type": "AzureMLModels", "name": "shared", "config": {"registry_name": "ours", "version": 7}},
        {"type": "AzureMLData", "name": "best-data"},
    ]
    azureml_emulator.workspace.add_registry("ours")

    done, made, folder = run(*wanted)
    uploaded = dict(azureml_emulator.uploads)
    again, made_again, _ = run(*wanted)

    assert done.returncode == 0, done.stderr
    assert again.returncode == 0, again.stderr
    assert made == made_again
    assert {name: each["version"] for name, each in made.items()} == {
        "best-model": "1",
        "shared": "7",
        "best-data": "1",
    }
    assert azureml_emulator.uploads == uploaded
    assert max(uploaded.values()) == 1
    record = json.loads((folder / "hfopt-output" / "run.json").read_text())
    figure = record["results"][0]["candidates"][0]["metrics"]["l-avg"]
    assert made["best-model"]["properties"]["l-avg"] == str(figure["value"])
    assert made["best-model"]["properties"]["hfopt.size_bytes"] == str(
        record["results"][0]["candidates"][0]["size_bytes"]
    )
    assert "\x1b[39m" not in done.stderr


def test_a_registry_that_is_not_there_is_a_sentence_and_the_model_is_kept(azureml_emulator, run):
    done, made, folder = run({"type": "AzureMLModels", "name": "m", "config": {"registry_name": "no"}})

    assert done.returncode != 0
    assert "there is no model m" in done.stderr
    assert made == {}
    assert (folder / "hfopt-output" / "best" / "model.onnx").exists()

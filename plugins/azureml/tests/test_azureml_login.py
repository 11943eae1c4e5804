"""Jobs that log in at the hub: a gated model is loaded there, and the token is found nowhere afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hfopt

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "azureml-login.md"
QUICK = {"operation_retry_interval": 0.05}
TOKEN = "_".join(("hf", "OfTheVault" * 3))  # not in one piece: so that no copy of this file has it
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
SCRIPT = """
from pathlib import Path

import torch
from huggingface_hub import get_token, snapshot_download
from safetensors.torch import load_file

ENDPOINT = "{endpoint}"


def load(_):
    print("the token is", get_token())
    folder = Path(snapshot_download("acme/gated", endpoint=ENDPOINT))
    model = torch.nn.Linear(4, 4)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


def dummy_inputs(_):
    return torch.ones(1, 4)
"""


@pytest.fixture
def config(tmp_path):
    """A model that a script loads from the hub, converted in jobs that log in as the page shows."""
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page = json.loads(shown)
    (tmp_path / "none.pt").write_bytes(b"")
    io = {"input_names": ["x"], "output_names": ["y"]}
    model = {"model_path": "none.pt", "model_script": "script.py", "model_loader": "load", "io_config": io}
    return {
        "azureml_client": {**page["azureml_client"], **QUICK},
        "input_model": {"type": "PyTorchModel", "config": {**model, "dummy_inputs_func": "dummy_inputs"}},
        "systems": page["systems"],
        "passes": {"convert": {"type": "OnnxConversion", "config": {"target_opset": 17}}},
        "engine": {"host": "cloud", "target": "cloud"},
    }


def written(config, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    return file


def test_hf_token_needs_the_name_of_a_vault(config, tmp_path):
    del config["azureml_client"]["keyvault_name"]

    with pytest.raises(hfopt.ConfigError) as refusal:
        hfopt.validate(written(config, tmp_path))

    assert (
        "systems.cloud.config.hf_token: is true, so the section azureml_client must have keyvault_name: "
        "jobs log in with it" in str(refusal.value)
    )


def test_jobs_are_told_of_the_vault_only_if_hf_token_is_true(config, tmp_path):
    with_login = hfopt.validate(written(config, tmp_path)).systems["cloud"].config
    config["systems"]["cloud"]["config"]["hf_token"] = False
    without = hfopt.validate(written(config, tmp_path)).systems["cloud"].config

    assert (with_login.logs_in, with_login.vault) == (True, "emulatorvault")
    assert (without.logs_in, without.vault) == (False, None)


def run(emulator, folder, hub=None):
    command = [sys.executable, "-m", "hfopt", "run", "config.json"]
    environment = emulator.client_env() | (hub.environment if hub else {})
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


@pytest.mark.engine
def test_a_job_loads_a_gated_model_and_the_token_stays_there(azureml_emulator, hub, config, tmp_path):
    import torch
    from safetensors.torch import save

    hub.tokens.add(TOKEN)
    hub.add_model("acme/gated", {"model.safetensors": save(torch.nn.Linear(4, 4).state_dict())}, readers={TOKEN})
    azureml_emulator.add_secret("hf-token", TOKEN)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "none.pt").write_bytes(b"")
    written(config, folder)
    (folder / "script.py").write_text(SCRIPT.format(endpoint=hub.url))

    done = run(azureml_emulator, folder)

    assert done.returncode == 0, done.stderr
    assert [each for each in hub.requests if each.path.endswith("model.safetensors")]
    assert "the token is ***" in "".join(file.read_text() for file in folder.rglob("*.log"))
    assert places_of_the_token(azureml_emulator, done, folder) == []
    (job, *_) = azureml_emulator.jobs.values()
    assert job.definition["environmentVariables"] == {"HFOPT_KEYVAULT": "emulatorvault"}
    assert job.definition["identity"] == {"identityType": "Managed"}


def places_of_the_token(emulator, done, *folders):
    """Where the token or a secret of Azure's is, of all that a run has written, sent and printed."""
    found = {file: file.read_bytes() for each in folders for file in each.rglob("*") if file.is_file()}
    found |= {file: file.read_bytes() for file in (emulator.folder / "jobs").rglob("*") if file.is_file()}
    found |= {f"{each.method} {each.path} {number}": each.body for number, each in enumerate(emulator.requests)}
    found |= {name: repr(job.definition).encode() for name, job in emulator.jobs.items()}
    found |= {"printed": (done.stdout + done.stderr).encode()}
    found |= blobs(emulator)
    assert len(found) > 50
    secrets = [TOKEN, emulator.identities.client_secret, emulator.identities.node_secret]
    secrets += emulator.blobs.keys.values()
    either = re.compile("|".join([*map(re.escape, secrets), "[?&]sig=[A-Za-z0-9%+/]{20}"]).encode())
    login = re.compile(b"client_secret=[^&]*")  # what a client sends to the login, and to nobody else
    return [
        place
        for place, content in found.items()
        if either.search(login.sub(b"", content) if "/oauth2/" in str(place) else content)
    ]


def blobs(emulator):
    """Everything that is in the workspace's storage, by name."""
    found = {}
    for container in ("azureml", *emulator.workspace.containers.values()):
        client = emulator.blobs.container("emulatorworkspace", container)
        found |= {f"{container}/{name}": client.download_blob(name).readall() for name in client.list_blob_names()}
    return found


@pytest.fixture
def gated(azureml_emulator, hub, config, tmp_path):
    """A project whose config names a model and data that the owner of the vault's token alone may have."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder)
    hub.tokens.add(TOKEN)
    hub.add_model("acme/gated", folder, readers={TOKEN})
    hub.add_dataset("acme/rows", {"rows.csv": b"text,label\n" + b"good film,1\nbad film,0\n" * 8}, readers={TOKEN})
    azureml_emulator.add_secret("hf-token", TOKEN)
    azureml_emulator.image = {"HF_ENDPOINT": hub.url}
    params = {"data_name": "acme/rows", "split": "train", "input_cols": ["text"], "label_cols": ["label"]}
    metric = {"name": "m", "type": "accuracy", "data_config": "rows", "sub_types": [{"name": "accuracy_score"}]}
    config["input_model"]["config"] = {"hf_config": {"model_name": "acme/gated", "task": "text-classification"}}
    config["data_configs"] = [
        {
            "name": "rows",
            "type": "HuggingfaceContainer",
            "params_config": {**params, "model_name": "acme/gated", "task": "text-classification"},
        }
    ]
    config["evaluators"] = {"e": {"metrics": [metric]}}
    config["systems"]["here"] = {"type": "LocalSystem", "config": {"hf_token": False}}
    config["engine"] |= {"evaluator": "e", "target": "here"}
    (tmp_path / "project").mkdir()
    return config


@pytest.mark.engine
def test_a_gated_model_and_gated_data_are_downloaded_by_jobs_once_and_the_token_stays_there(
    azureml_emulator, hub, gated, tmp_path
):
    folder = tmp_path / "project"
    written(gated, folder)

    done = run(azureml_emulator, folder, hub)

    assert done.returncode == 0, done.stderr
    commit = re.search("acme/gated: revision main is ([0-9a-f]{12})", done.stderr)[1]
    identities = [json.loads(each.read_text())["recipe"].get("identity", "") for each in folder.rglob("manifest.json")]
    assert any(each.startswith(f"hf:model/acme/gated@{commit}") for each in identities)
    record = json.loads((folder / "hfopt-output" / "run.json").read_text())
    assert record["results"][0]["candidates"][0]["metrics"]["m-accuracy_score"]["value"] >= 0
    files = [each for each in hub.requests if "/resolve/" in each.path]
    assert {each.path.rpartition("/")[2] for each in files} >= {"model.safetensors", "rows.csv"}
    assert all(each.authorized for each in files)
    assert not any(name.endswith(("model.safetensors", "rows.csv")) for name in azureml_emulator.uploads)
    assert not any(each.authorized for each in hub.requests if "/revision/main" in each.path)
    assert places_of_the_token(azureml_emulator, done, folder, Path(hub.environment["HF_HOME"])) == []

    asked, jobs = len(hub.requests), len(azureml_emulator.jobs)
    again = run(azureml_emulator, folder, hub)

    assert again.returncode == 0, again.stderr
    assert {each.path.rpartition("/")[2] for each in hub.requests[asked:]} == {"main"}
    assert len(azureml_emulator.jobs) == jobs


@pytest.mark.engine
def test_a_gated_model_without_hf_token_is_refused_with_a_hint_at_the_vault(azureml_emulator, hub, gated, tmp_path):
    del gated["systems"]["cloud"]["config"]["hf_token"]
    folder = tmp_path / "project"
    written(gated, folder)

    done = run(azureml_emulator, folder, hub)

    assert done.returncode == 1
    assert "acme/gated is gated: it needs an account that has accepted its licence" in done.stderr
    assert (
        "systems.cloud.config.azureml_client_config.keyvault_name is ignored: hf_token is not true: what is gated on "
        "the hub is fetched with a token of this machine" in done.stderr
    )


def test_downloads_from_the_hub_alone_are_steps_of_the_first_system_that_logs_in(config, tmp_path):
    blob = {"type": "azureml_datastore", "config": {"datastore_name": "store", "relative_path": "rows.csv"}}
    data = {"type": "HuggingfaceContainer", "load_dataset_config": {"params": {"data_name": "csv", "data_files": blob}}}
    metric = {"name": "m", "type": "accuracy", "data_config": "rows", "sub_types": [{"name": "accuracy_score"}]}
    config["input_model"]["config"] = {"hf_config": {"model_name": "acme/gated", "task": "text-classification"}}
    config["data_configs"] = [{"name": "rows", **data}]
    config["evaluators"] = {"e": {"metrics": [metric]}}
    config["engine"] = {"target": "cloud", "evaluator": "e"}

    def places():
        return {each.name: each.system for each in hfopt.plan(written(config, tmp_path)).steps() if each.token}

    with_login = places()
    del config["systems"]["cloud"]["config"]["hf_token"]

    assert with_login == {"fetch acme/gated": "cloud", "fetch azureml_datastore": "local_system"}
    assert set(places().values()) == {"local_system"}


@pytest.mark.engine
def test_a_vault_that_the_compute_may_not_read_is_told_before_anything_runs(azureml_emulator, config, tmp_path):
    azureml_emulator.add_vault("locked", readers=["client"])
    azureml_emulator.add_secret("hf-token", TOKEN, vault="locked")
    config["azureml_client"]["keyvault_name"] = "locked"
    written(config, tmp_path)

    done = run(azureml_emulator, tmp_path)

    assert done.returncode not in (0, 1)
    assert "the managed identity of this job's compute may not read secrets of key vault locked" in done.stderr
    assert "Key Vault Secrets User" in done.stderr
    assert len(azureml_emulator.jobs) == 1

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


def test_hf_token_is_about_jobs_and_what_this_machine_fetches_needs_none(config, tmp_path):
    with_login = hfopt.validate(written(config, tmp_path)).systems["cloud"].config
    config["systems"]["cloud"]["config"]["hf_token"] = False
    without = hfopt.validate(written(config, tmp_path)).systems["cloud"].config

    assert (with_login.hf_token, with_login.client.keyvault_name) == (None, "emulatorvault")
    assert (without.hf_token, without.client.keyvault_name) == (False, None)


def run(emulator, folder):
    command = [sys.executable, "-m", "hfopt", "run", "config.json"]
    environment = emulator.client_env()
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
    found = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    found |= {file: file.read_bytes() for file in (azureml_emulator.folder / "jobs").rglob("*") if file.is_file()}
    found |= {f"{each.method} {each.path} {number}": each.body for number, each in enumerate(azureml_emulator.requests)}
    found |= {name: repr(job.definition).encode() for name, job in azureml_emulator.jobs.items()}
    found |= {"printed": (done.stdout + done.stderr).encode()}
    found |= blobs(azureml_emulator)
    secrets = [TOKEN, azureml_emulator.identities.client_secret, azureml_emulator.identities.node_secret]
    secrets += azureml_emulator.blobs.keys.values()
    either = re.compile("|".join([*map(re.escape, secrets), "[?&]sig=[A-Za-z0-9%+/]{20}"]).encode())
    login = re.compile(b"client_secret=[^&]*")  # what a client sends to the login, and to nobody else
    with_secrets = [
        place
        for place, content in found.items()
        if either.search(login.sub(b"", content) if "/oauth2/" in str(place) else content)
    ]
    assert with_secrets == []
    assert len(found) > 50
    (job, *_) = azureml_emulator.jobs.values()
    assert job.definition["environmentVariables"] == {"HFOPT_KEYVAULT": "emulatorvault"}
    assert job.definition["identity"] == {"identityType": "Managed"}


def blobs(emulator):
    """Everything that is in the workspace's storage, by name."""
    found = {}
    for container in ("azureml", *emulator.workspace.containers.values()):
        client = emulator.blobs.container("emulatorworkspace", container)
        found |= {f"{container}/{name}": client.download_blob(name).readall() for name in client.list_blob_names()}
    return found


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

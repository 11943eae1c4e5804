"""A job reads the hub's token from a key vault with its compute's identity, and says what stands between them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hfopt import PreconditionFailed
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.vault import hub_token

PROGRAM = """
import contextlib, json, os, sys
from hashlib import sha256
from hfopt import PreconditionFailed
from hfopt_azureml import vault
from hfopt_azureml.client_config import AzureMLClientConfig

client = AzureMLClientConfig(max_operation_retries=2, operation_retry_interval=0.05)
said = {}
for name in ("locked", "bare", "blank", "gone"):
    try:
        vault.hub_token(name, client)
    except PreconditionFailed as failure:
        said[name] = failure.message
os.environ["MSI_SECRET"], secret = "wrong", os.environ["MSI_SECRET"]
try:
    vault.hub_token("emulatorvault", client)
except PreconditionFailed as failure:
    said["refused"] = failure.message.partition(": ")[0]
os.environ["MSI_SECRET"] = secret
vault.log_in(client)
said["token"] = sha256(os.environ["HF_TOKEN"].encode()).hexdigest()
for name in ("MSI_ENDPOINT", "MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID"):
    del os.environ[name]
try:
    vault.hub_token("emulatorvault", client)
except PreconditionFailed as failure:
    said["nobody"] = failure.message.partition(": ")[0]
with contextlib.suppress(KeyError):
    del os.environ["HFOPT_KEYVAULT"], os.environ["HF_TOKEN"]
vault.log_in(client)
said["without"] = "HF_TOKEN" in os.environ
print(json.dumps(said))
"""
SUBMIT = """
import sys
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import ManagedIdentityConfiguration
from azure.identity import DefaultAzureCredential

ml = MLClient(DefaultAzureCredential(), *sys.argv[1:4])
ml.jobs.create_or_update(command(
    name="reader", command="python program.py", code=sys.argv[4], environment="azureml:local:1",
    compute="cpu-cluster", identity=ManagedIdentityConfiguration(),
    environment_variables={"HFOPT_KEYVAULT": "emulatorvault"},
))
"""


def test_an_environment_without_azure_identity_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.identity", None)

    with pytest.raises(PreconditionFailed, match="the environment of the job can't read key vault ours") as failure:
        hub_token("ours", AzureMLClientConfig())

    assert failure.value.hint == "azure-identity must be installed in the job's environment"


@pytest.mark.engine
def test_a_job_gets_the_token_or_a_sentence(azureml_emulator, client, tmp_path):
    from hashlib import sha256

    from azureml_emulator.faults import Fault
    from azureml_emulator.places import ACCOUNT, Place

    token = "hf_" + "emulated" * 4
    azureml_emulator.add_secret("hf-token", token + "\n")
    for name in ("bare", "blank"):
        azureml_emulator.add_vault(name)
    azureml_emulator.add_secret("hf-token", " ", vault="blank")
    azureml_emulator.add_vault("locked", readers=["client"])
    busy = azureml_emulator.faults.add(Fault(host="emulatorvault.*", times=2, status=429))
    starting = azureml_emulator.faults.add(Fault(host="127.0.0.1", path="/msi/token", times=1, status=500))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "program.py").write_text(PROGRAM)
    workspace = [client[name] for name in ("subscription_id", "resource_group", "workspace_name")]

    submit = [sys.executable, "-c", SUBMIT, *workspace, str(tmp_path / "code")]
    subprocess.run(submit, env=azureml_emulator.client_env(), check=True, capture_output=True)
    status = azureml_emulator.wait("reader")

    log = azureml_emulator.read_blob(Place(ACCOUNT, "azureml", "ExperimentRun/dcid.reader/user_logs/std_log.txt"))
    assert status == "Completed", log.decode()
    assert json.loads(log) == {
        "locked": "the managed identity of this job's compute may not read secrets of key vault locked",
        "bare": "the secret hf-token of key vault bare is not there",
        "blank": "the secret hf-token of key vault blank is empty",
        "gone": "key vault gone can't be reached from this job",
        "token": sha256(token.encode()).hexdigest(),
        "nobody": "this job has no managed identity, which hf_token needs to read key vault emulatorvault",
        "refused": "this job has no managed identity, which hf_token needs to read key vault emulatorvault",
        "without": False,
    }
    assert (busy.struck, starting.struck) == (2, 1)

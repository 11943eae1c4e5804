"""Jobs run their command as on a node of AzureML, for the SDK as it is."""

from __future__ import annotations

import json

import pytest

from azureml_emulator.emulator import VAULT
from azureml_emulator.places import ACCOUNT, Place

pytestmark = pytest.mark.engine

PROGRAM = """
import json, os, sys, time
from pathlib import Path
model, rows, name, kept, made = sys.argv[1:]
print("reading", name)
files = sorted(str(path.relative_to(model)) for path in Path(model).rglob("*") if path.is_file())
seen = {name: os.environ.get(name) for name in ("AZUREML_RUN_ID", "COLOUR", "AZURE_CLIENT_SECRET", "MSI_SECRET")}
Path(made, "seen.json").write_text(json.dumps({"files": files, "rows": Path(rows).read_text(), "name": name, **seen}))
Path(kept, "kept.txt").write_text("kept")
Path("outputs").mkdir()
Path("outputs", "default.txt").write_text("default")
print("wrote", file=sys.stderr)
"""
SUBMIT = """
    code, target = sys.argv[1:]
    def submit(name, line, **more):
        job = command(command=line, name=name, code=code, environment="azureml:env:1", compute="many", **more)
        return ml.jobs.create_or_update(job)
    job = submit(
        "whole",
        "python program.py ${{inputs.model}} ${{inputs.rows}} '${{inputs.name}}' ${{outputs.kept}} ${{outputs.made}}",
        inputs={
            "model": Input(type="custom_model", path="azureml:given:1"),
            "rows": Input(type="uri_file", path="azureml:rows:1", mode="download"),
            "name": "a name",
        },
        outputs={
            "kept": Output(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/own/place"),
            "made": Output(type="uri_folder"),
        },
        environment_variables={"COLOUR": "red"},
        experiment_name="tests",
    )
    said["submitted"] = [job.name, job.experiment_name]
    submit("failing", "echo soon; exit 3")
    limited = command(command="sleep 60", name="limited", environment="azureml:env:1", compute="many", timeout=1)
    ml.jobs.create_or_update(limited)
    submit("endless", "echo started; sleep 60 & wait")
    queued = command(command="true", name="queued", environment="azureml:env:1", compute="full")
    said["at first"] = ml.jobs.create_or_update(queued).status
    def wait(name, *statuses):
        while ml.jobs.get(name).status not in statuses:
            time.sleep(0.1)
        return ml.jobs.get(name).status
    wait("endless", "Running")
    said["still"] = ml.jobs.get("queued").status
    for name in ("endless", "queued"):
        ml.jobs.begin_cancel(name).result(20)
        said[name] = wait(name, "Canceled")
    said["whole"] = wait("whole", "Completed", "Failed")
    said["failing"] = wait("failing", "Completed", "Failed")
    said["limited"] = wait("limited", "Completed", "Failed", "Canceled")
    ml.jobs.download("whole", download_path=target, all=True)
    try:
        ml.jobs.stream("failing")
    except JobException as error:
        said["error"] = str(error)
    model = Model(name="result", version="1", path="azureml://jobs/whole/outputs/made/paths/")
    said["model"] = ml.models.create_or_update(model).path
    right = {"command": "true", "environment": "azureml:env:1", "compute": "many"}
    for name, wrong in {"compute": "no", "environment": "azureml:no:1"}.items():
        try:
            ml.jobs.create_or_update(command(**{**right, name: wrong}))
        except HttpResponseError as error:
            said["no " + name] = error.message.splitlines()[0]
"""
SECRETS = """
import json, os
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
said = {}
credential = ManagedIdentityCredential(client_id=os.environ["DEFAULT_IDENTITY_CLIENT_ID"])
for vault, name in (("emulatorvault", "hf-token"), ("emulatorvault", "no"), ("locked", "hf-token"), ("no", "hf-token")):
    try:
        client = SecretClient(f"https://{vault}.vault.azure.net", credential, retry_total=0)
        said[vault + "/" + name] = client.get_secret(name).value
    except HttpResponseError as error:
        said[vault + "/" + name] = error.status_code
    except ServiceRequestError as error:
        said[vault + "/" + name] = type(error).__name__
from huggingface_hub import HfApi
said["who"] = HfApi(token=said["emulatorvault/hf-token"]).whoami()["name"]
print(json.dumps(said))
"""


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    return folder


def log(emulator, job):
    place = Place(ACCOUNT, "azureml", f"ExperimentRun/dcid.{job}/user_logs/std_log.txt")
    return emulator.read_blob(place).decode()


def test_jobs_run_wait_fail_and_are_cancelled(azureml_emulator, sdk, code, model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of someone who runs the tests")
    rows = tmp_path / "rows.csv"
    rows.write_text("1,2")
    azureml_emulator.add_model("given", model_folder)
    azureml_emulator.add_data("rows", rows)
    azureml_emulator.add_environment("env")
    azureml_emulator.add_compute("many", nodes=5)
    azureml_emulator.add_compute("full", nodes=0)

    said = sdk(SUBMIT, azureml_emulator.client_env(), code, tmp_path / "got")

    assert "exited with status code 3" in said.pop("error")
    assert said.pop("model").endswith("/paths/azureml/whole/made")
    assert said == {
        "submitted": ["whole", "tests"],
        "at first": "Queued",
        "queued": "Canceled",
        "still": "Queued",
        "whole": "Completed",
        "failing": "Failed",
        "limited": "Canceled",
        "endless": "Canceled",
        "no compute": "(UserError) Unknown compute target 'no'.",
        "no environment": "(UserError) Environment no:1 was not found.",
    }
    assert json.loads((tmp_path / "got" / "named-outputs" / "made" / "seen.json").read_text()) == {
        "files": ["model.bin", "sub/config.json"],
        "rows": "1,2",
        "name": "a name",
        "AZUREML_RUN_ID": "whole",
        "COLOUR": "red",
        "AZURE_CLIENT_SECRET": None,
        "MSI_SECRET": None,
    }
    assert (tmp_path / "got" / "named-outputs" / "kept" / "kept.txt").read_text() == "kept"
    assert (tmp_path / "got" / "artifacts" / "outputs" / "default.txt").read_text() == "default"
    assert sorted(log(azureml_emulator, "whole").splitlines()) == ["reading a name", "wrote"]
    assert log(azureml_emulator, "endless") == "started\n"
    uploads = [each for each in azureml_emulator.requests if each.path.endswith("/program.py") and each.status == 201]
    assert len(uploads) == 1, "code with the same hash is there already"
    assert azureml_emulator.jobs["limited"].error["message"].endswith("its limit of 1 seconds.")


def test_only_the_computes_identity_reads_a_secret(azureml_emulator, sdk, code):
    (code / "program.py").write_text(SECRETS)
    azureml_emulator.add_environment("env")
    azureml_emulator.add_secret("hf-token", "hf_xyz")
    azureml_emulator.add_vault("locked", readers=())
    azureml_emulator.hub_tokens["hf_xyz"] = "someone"

    said = sdk(
        """
        from azure.ai.ml.entities import ManagedIdentityConfiguration
        from azure.keyvault.secrets import SecretClient
        job = command(command="python program.py", name="secrets", code=sys.argv[1], environment="azureml:env:1",
                      compute="cpu-cluster", identity=ManagedIdentityConfiguration())
        ml.jobs.create_or_update(job)
        try:
            SecretClient("https://emulatorvault.vault.azure.net", credential).get_secret("hf-token")
        except HttpResponseError as error:
            said["client"] = error.status_code
        """,
        azureml_emulator.client_env(),
        code,
    )

    assert azureml_emulator.wait("secrets") == "Completed", log(azureml_emulator, "secrets")
    assert said == {"client": 403}
    assert json.loads(log(azureml_emulator, "secrets").splitlines()[-1]) == {
        f"{VAULT}/hf-token": "hf_xyz",
        f"{VAULT}/no": 404,
        "locked/hf-token": 403,
        "no/hf-token": "ServiceRequestError",
        "who": "someone",
    }

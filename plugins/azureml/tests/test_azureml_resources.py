"""What lies in workspaces and registries, fetched by the real SDK over HTTP from the emulator."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

STORAGE = pytest.mark.parametrize("azureml_emulator", ["sas", "key", "identity"], indirect=True)
STORE = "workspaceblobstore"


def files(folder):
    """The content of every file below a folder, by its path."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stored(emulator, path, kind="GET"):
    """How often blobs at a path were asked for."""
    return [each for each in emulator.requests if each.method == kind and path in each.path and ".blob." in each.host]


@STORAGE
def test_a_model_of_the_workspace_is_what_was_registered(azureml_emulator, get, tree):
    azureml_emulator.add_model("tiny", tree / "model", "3")

    said = get("azureml_model", name="tiny", version=3)

    assert files(said["folder"]) == files(tree / "model")
    assert said["report"] == {"files": 3, "bytes": 1_280_002}
    assert said["progress"] == [["download", 1_280_002, 1_280_002]]
    assert said["resolved"]["identity"].endswith("/workspaces/workspace/models/tiny/versions/3")


@STORAGE
def test_a_model_of_a_registry_needs_no_workspace(azureml_emulator, get, tree):
    azureml_emulator.add_model("tiny", tree / "model", "13", registry="azureml-meta")

    own = dict.fromkeys(("subscription_id", "resource_group", "workspace_name"))
    said = get("azureml_registry_model", registry_name="azureml-meta", name="tiny", version="13", own=own)

    assert files(said["folder"]) == files(tree / "model")
    assert said["resolved"]["identity"] == "azureml://registries/azureml-meta/models/tiny/versions/13"


def test_a_model_that_is_one_file_is_that_file(azureml_emulator, get, tree):
    azureml_emulator.add_model("text", tree / "model.txt")

    said = get("azureml_model", name="text", version="1")

    assert files(said["folder"]) == {"model.txt": b"nor this"}
    assert said["report"]["file"] == "model.txt"


@STORAGE
def test_a_path_in_a_datastore_is_taken_exactly(azureml_emulator, get, tree):
    azureml_emulator.add_blob(tree, "exact")
    options = {"datastore_name": STORE}

    folder = get("azureml_datastore", relative_path="exact/model", **options)
    slash = get("azureml_datastore", relative_path="exact/model/", to="slash", **options)
    file = get("azureml_datastore", relative_path="exact/model.txt", to="file", **options)
    part = get("azureml_datastore", relative_path="exact/mod", to="part", **options)

    assert files(folder["folder"]) == files(slash["folder"]) == files(tree / "model")
    assert (files(file["folder"]), file["report"]["file"]) == ({"model.txt": b"nor this"}, "model.txt")
    assert part["message"] == f"{STORE} has no file and no folder exact/mod"
    assert part["hint"] == "check the path: it is taken exactly, and no other that only begins so"


def test_a_url_names_what_a_datastore_has(azureml_emulator, get, tree):
    url = azureml_emulator.add_blob(tree / "model", "by url")

    said = get("azureml", url=url.replace("by url", "by%20url"))

    assert files(said["folder"]) == files(tree / "model")


def test_what_a_datastore_has_counts_as_it_is_now(azureml_emulator, get, tree):
    options = {"datastore_name": STORE, "relative_path": "now"}
    azureml_emulator.add_blob(tree / "model", "now")
    first = get("azureml_datastore", **options)["resolved"]
    again = get("azureml_datastore", to="again", **options)["resolved"]

    azureml_emulator.add_blob(tree / "model2" / "config.json", "now/config.json")
    changed = get("azureml_datastore", to="changed", **options)

    assert first == again
    assert changed["resolved"]["identity"] != first["identity"]
    assert files(changed["folder"])["config.json"] == b'{"not": "this"}'


def test_what_changes_after_the_run_began_is_refused(azureml_emulator, get, tree):
    azureml_emulator.add_blob(tree / "model", "late")
    late = "import hfopt_azureml.blobs as b; b.Found.digest = property(lambda self, n=iter('12'): next(n))"

    said = get("azureml_datastore", datastore_name=STORE, relative_path="late", setup=late)

    assert "/late was changed since the run began" in said["message"]


def test_a_break_goes_on_where_it_was(azureml_emulator, get, tree):
    from azureml_emulator.faults import Fault

    azureml_emulator.add_model("broken", tree / "model")
    weights = "*weights*"
    cut = azureml_emulator.faults.add(Fault(method="GET", path=weights, cut="answer", after=700_000, times=2))
    busy = azureml_emulator.faults.add(Fault(method="GET", path=weights, status=503, code="ServerBusy", times=1))

    said = get("azureml_model", name="broken", version="1")

    assert files(said["folder"]) == files(tree / "model")
    assert (cut.struck, busy.struck) == (2, 1)


def test_what_an_attempt_has_brought_is_not_asked_for_again(azureml_emulator, get, tree):
    from azureml_emulator.faults import Fault

    (tree / "model" / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    azureml_emulator.add_model("twice", tree / "model")
    azureml_emulator.faults.add(Fault(method="GET", path="*large*", cut="answer", after=2_000_000))
    own = {"max_operation_retries": 0}

    first = get("azureml_model", name="twice", version="1", own=own)
    azureml_emulator.faults.clear()
    azureml_emulator.requests.clear()
    second = get("azureml_model", name="twice", version="1")

    assert first["message"].startswith("Azure can't be reached for azureml://")
    assert files(second["folder"]) == files(tree / "model")
    assert stored(azureml_emulator, "weights") == []


@pytest.mark.parametrize("status", [429, 500])
def test_every_third_request_that_fails_is_made_again(azureml_emulator, get, tree, status):
    from azureml_emulator.faults import Fault

    azureml_emulator.add_model("patient", tree / "model")
    azureml_emulator.add_model("patient", tree / "model", registry="far")
    headers = {"Retry-After": "0"} if status == 429 else {}
    fault = azureml_emulator.faults.add(Fault(every=3, status=status, headers=headers))

    here = get("azureml_model", name="patient", version="1")
    there = get("azureml_registry_model", registry_name="far", name="patient", version="1", to="there")

    assert (here.get("message"), there.get("message")) == (None, None)
    assert files(here["folder"]) == files(there["folder"]) == files(tree / "model")
    assert fault.struck > 2


def test_memory_does_not_grow_with_a_file(azureml_emulator, get, tmp_path):
    with (tmp_path / "zeros.bin").open("wb") as file:
        file.truncate(200 * 2**20)
    azureml_emulator.add_blob(tmp_path / "zeros.bin", "zeros.bin")
    azureml_emulator.add_blob(tmp_path / "zeros.bin", "small.bin")
    (tmp_path / "small.bin").write_bytes(b"0")
    azureml_emulator.add_blob(tmp_path / "small.bin", "small.bin")

    small = get("azureml_datastore", datastore_name=STORE, relative_path="small.bin")
    large = get("azureml_datastore", datastore_name=STORE, relative_path="zeros.bin", to="large")

    assert (large["folder"] / "zeros.bin").stat().st_size == 200 * 2**20
    assert large["peak"] - small["peak"] < 60 * 2**20


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("azureml_model", {"name": "no", "version": "1"}, "there is no model no:1"),
        (
            "azureml_registry_model",
            {"registry_name": "no", "name": "no", "version": "1"},
            "there is no model no:1 in registry no",
        ),
        ("azureml_datastore", {"datastore_name": "no", "relative_path": "x"}, "there is no datastore no"),
        ("azureml_job_output", {"job_name": "no", "output_name": "o"}, "there is no job no"),
    ],
)
def test_what_is_not_there_is_told_by_its_name(azureml_emulator, get, kind, options, message):
    said = get(kind, **options)

    assert said["message"].partition(" (")[0] == message
    assert said["hint"].startswith("check ")


def test_a_workspace_that_is_not_there_is_told(azureml_emulator, get):
    said = get("azureml_model", name="tiny", version="1", own={"workspace_name": "no"})

    assert said["hint"] == "check its name, and the workspace no of resource group group"


def test_who_is_not_signed_in_is_told_what_to_run(azureml_emulator, get):
    nobody = dict.fromkeys(("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"))
    only = {f"exclude_{name}_credential": True for name in ("managed_identity", "cli", "powershell", "developer_cli")}

    said = get("azureml_model", name="tiny", version="1", environment=nobody, own={"default_auth_params": only})

    assert said["message"] == "nobody is signed in to Azure, which model tiny:1 needs"
    assert said["hint"].startswith("run `az login`, or set AZURE_TENANT_ID")


def test_a_wrong_secret_is_told_and_is_in_no_log(azureml_emulator, get):
    wrong = "".join(("not", "-the-", "secret"))

    said = get("azureml_model", name="tiny", version="1", environment={"AZURE_CLIENT_SECRET": wrong})

    assert said["message"] == "Azure does not accept the service principal of AZURE_CLIENT_ID, which model tiny:1 needs"
    assert wrong not in said["log"]


def test_offline_nothing_is_asked(azureml_emulator, get):
    model = get("azureml_model", name="tiny", version="1", offline=True)
    data = get("azureml_datastore", datastore_name=STORE, relative_path="x", offline=True)

    assert "can't be asked for offline" in model["message"]
    assert "can't be asked for offline" in data["message"]
    assert azureml_emulator.requests == []


def test_the_sdk_says_nothing_and_sends_no_telemetry(azureml_emulator, get, tree):
    azureml_emulator.add_model("quiet", tree / "model")

    said = get("azureml_model", name="quiet", version="1")

    assert said["log"] == ""
    assert azureml_emulator.refused == []


JOB = """
import sys
from azure.ai.ml import MLClient, Output, command
from azure.identity import DefaultAzureCredential

ml = MLClient(DefaultAzureCredential(), *sys.argv[1:4])
job = command(
    name="maker",
    command="mkdir ${{outputs.own}}/m ${{outputs.named}}/m && echo own > ${{outputs.own}}/m/a.txt"
    " && echo named > ${{outputs.named}}/m/a.txt && echo b > ${{outputs.named}}/m.txt",
    environment="azureml:any:1",
    compute="cpu-cluster",
    outputs={
        "own": Output(type="uri_folder"),
        "named": Output(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/made/here"),
    },
)
ml.jobs.create_or_update(job)
"""


def test_an_output_of_a_job_is_had_wherever_it_lies(azureml_emulator, get, client):
    azureml_emulator.add_environment("any")
    workspace = [client[name] for name in ("subscription_id", "resource_group", "workspace_name")]
    environment = azureml_emulator.client_env()
    subprocess.run([sys.executable, "-c", JOB, *workspace], env=environment, check=True, capture_output=True)
    azureml_emulator.wait("maker", "Completed")

    own = get("azureml_job_output", job_name="maker", output_name="own", relative_path="m")
    named = get("azureml_job_output", job_name="maker", output_name="named", to="named")
    file = get("azureml_job_output", job_name="maker", output_name="named", relative_path="m/a.txt", to="file")
    missing = get("azureml_job_output", job_name="maker", output_name="other", to="other")
    nothing = get("azureml_job_output", job_name="maker", output_name="own", relative_path="n", to="nothing")

    assert files(own["folder"]) == {"a.txt": b"own\n"}
    assert files(named["folder"]) == {"m/a.txt": b"named\n", "m.txt": b"b\n"}
    assert (files(file["folder"]), file["report"]["file"]) == ({"a.txt": b"named\n"}, "a.txt")
    assert missing["message"].startswith("job maker has no output 'other'; it has ")
    assert " has no " in nothing["message"]

"""What a config says of Azure Machine Learning, checked without asking anybody and without Azure's SDK."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hfopt
from hfopt.api.references import Reference
from hfopt_azureml.client_config import AUTH_PARAMS, Workspace
from hfopt_azureml.places import InDatastore, InJobOutput, InRegistry, InWorkspace, parse

CLIENT = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
HERE = Workspace("s", "g", "w")
LONG = "azureml://subscriptions/s/resourcegroups/g/workspaces/w"
PASSES = {"passes": {"quantize": {"type": "OnnxDynamicQuantization"}}}
MODEL = {"type": "azureml_model", "config": {"name": "tiny", "version": 3}}


@pytest.fixture
def validated(tmp_path):
    """The run config of an ONNX model at a place."""

    def validate(place, client=CLIENT, kind="ONNXModel", **more):
        section = {} if client is None else {"azureml_client": client}
        about = {} if kind == "ONNXModel" else {"hf_config": {"model_name": "acme/tiny", "task": "fill-mask"}}
        model = {"input_model": {"type": kind, "config": {"model_path": place, **about}}}
        passes = PASSES if kind == "ONNXModel" else {"passes": {"quantize": {"type": "OnnxConversion"}}}
        file = tmp_path / "config.json"
        file.write_text(json.dumps({**section, **model, **passes, **more}))
        return hfopt.validate(file)

    return validate


@pytest.fixture
def refusal(validated):
    def refuse(*arguments, **more):
        with pytest.raises(hfopt.ConfigError) as error:
            validated(*arguments, **more)
        return str(error.value)

    return refuse


def place_of(run):
    (resource,) = run.input_model.resources.values()
    return resource.config.place


@pytest.mark.parametrize(
    ("written", "place"),
    [
        (MODEL, InWorkspace("tiny", "3")),
        (
            {"type": "AzureML_Registry_Model", "config": {"registry_name": "meta", "name": "l", "version": "13"}},
            InRegistry("meta", "l", "13"),
        ),
        (
            {"type": "azureml_datastore", "config": {"datastore_name": "d", "relative_path": "/a/b.onnx"}},
            InDatastore("d", "a/b.onnx"),
        ),
        (
            {"type": "azureml_datastore", "config": {"datastore_url": f"{LONG}/datastores/d/paths/a/"}},
            InDatastore("d", "a/", HERE),
        ),
        (
            {"type": "azureml_job_output", "config": {"job_id": "j", "output_name": "o", "relative_path": "m"}},
            InJobOutput("j", "o", "m"),
        ),
        ({"type": "azureml_job_output", "config": {"job_name": "j", "output_name": "o"}}, InJobOutput("j", "o")),
        ("azureml://datastores/d/paths/a%20b/c.onnx", InDatastore("d", "a b/c.onnx")),
        ("azureml://jobs/j/outputs/o/paths/m", InJobOutput("j", "o", "m")),
    ],
)
def test_a_place_is_read_as_olive_and_azure_write_it(validated, written, place):
    assert place_of(validated(written)) == place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("azureml://jobs/j/outputs/o", InJobOutput("j", "o")),
        (f"{LONG.replace('groups', 'Groups')}/models/m/versions/1", InWorkspace("m", "1", HERE)),
        ("azureml://registries/r/models/m/versions/1", InRegistry("r", "m", "1")),
        (
            "azureml://subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/"
            "datastores/d/paths/p",
            InDatastore("d", "p", HERE),
        ),
    ],
)
def test_a_url_says_where_something_lies(url, place):
    assert parse(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "azureml://datastores/d",
        "azureml://datastores/d/paths/",
        "azureml://datastores/d/paths/../x",
        "azureml://datastores/d/paths/%2e%2e/x",
        "azureml://registries/r/models/m",
        "azureml:tiny:3",
        "https://datastores/d/paths/x",
    ],
)
def test_what_names_nothing_is_no_url(url):
    with pytest.raises(ValueError, match="is not a"):
        parse(url)


def test_the_section_says_which_workspace(validated):
    (resource,) = validated(MODEL).input_model.resources.values()

    assert resource.config.client.workspace == HERE


def test_a_resource_may_have_a_workspace_of_its_own(validated):
    own = {**MODEL["config"], "azureml_client": {**CLIENT, "workspace_name": "other"}}

    (resource,) = validated({"type": "azureml_model", "config": own}).input_model.resources.values()

    assert resource.config.client.workspace == Workspace("s", "g", "other")


@pytest.mark.parametrize("kind", ["ONNXModel", "PyTorchModel"])
def test_a_reference_may_be_longer_than_a_files_name(validated, kind, tmp_path):
    own = {**CLIENT, "workspace_name": "w" * 400}
    place = {"type": "azureml_model", "config": {"name": "m", "version": "1", "azureml_client": own}}

    run = validated(place, kind=kind)

    assert place_of(run) == InWorkspace("m", "1")
    command = [sys.executable, "-m", "hfopt", "plan", str(tmp_path / "config.json")]
    planned = subprocess.run(command, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr


def test_a_systems_paths_are_on_this_machine(refusal):
    system = {
        "type": "PythonEnvironment",
        "config": {"managed": True, "requirements_file": "azureml://jobs/j/outputs/o"},
    }

    message = refusal("m.onnx", systems={"s": system})

    assert "systems.s: names what lies elsewhere: paths of a system must be on this machine" in message


@pytest.mark.parametrize("client", [None, {"subscription_id": "s"}])
def test_what_is_missing_of_the_workspace_is_named(refusal, client):
    message = refusal(MODEL, client)

    missing = "resource_group, workspace_name" if client else "subscription_id, resource_group, workspace_name"
    assert (
        "input_model.config.model_path.config: needs a workspace: the section azureml_client must have "
        f"{missing}, or aml_config_path" in message
    )


def test_a_registry_and_a_url_that_says_all_need_no_workspace(validated):
    assert validated(
        {"type": "azureml_registry_model", "config": {"registry_name": "r", "name": "m", "version": "1"}}, None
    )
    assert validated(f"{LONG}/datastores/d/paths/a", None)


def test_the_studios_file_says_which_workspace_and_wins(validated, tmp_path):
    (tmp_path / "aml.json").write_text(json.dumps(CLIENT))

    run = validated(MODEL, {"aml_config_path": "aml.json", "workspace_name": "other"})

    (resource,) = run.input_model.resources.values()
    assert resource.config.client.workspace == HERE
    assert resource.config.client.aml_config_path is None
    assert "azureml_client: workspace_name ignored: aml_config_path says" in run.notices


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "aml.json can't be read as JSON"),
        ("[]", "aml.json must have subscription_id, resource_group, workspace_name"),
        ('{"subscription_id": "s", "resource_group": 3}', "aml.json must have resource_group, workspace_name"),
    ],
)
def test_a_file_of_the_studios_that_lacks_something_is_refused(refusal, tmp_path, content, message):
    (tmp_path / "aml.json").write_text(content)

    told = refusal(MODEL, {"aml_config_path": "aml.json"})

    assert "azureml_client.aml_config_path: " in told
    assert message in told


@pytest.mark.parametrize(
    ("client", "message"),
    [
        ({"default_auth_params": {"exclude_cli": True}}, "did you mean 'exclude_cli_credential'?"),
        ({"default_auth_params": {"exclude_cli_credential": 1}}, "exclude_cli_credential: must be true or false"),
        ({"default_auth_params": {"process_timeout": "1"}}, "process_timeout: must be a whole number"),
        ({"read_timeout": 0}, "azureml_client.read_timeout"),
        ({"max_operation_retries": -1}, "azureml_client.max_operation_retries"),
        ({"keyvault_name": "https://v.vault.azure.net"}, "keyvault_name: is not the name of a key vault"),
        ({"workspace": "w"}, "azureml_client.workspace: unknown key"),
    ],
)
def test_what_the_section_can_not_say_is_refused(refusal, client, message):
    assert message in refusal(MODEL, {**CLIENT, **client})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"type": "azureml_model", "config": {"name": "m"}}, "model_path.config.version: is required"),
        ({"type": "azureml_model", "config": {"name": "a/b", "version": "1"}}, "'a/b' is not a name"),
        (
            {"type": "azureml_datastore", "config": {"datastore_name": "d"}},
            "needs datastore_url, or datastore_name and",
        ),
        (
            {"type": "azureml_datastore", "config": {"datastore_url": "azureml://jobs/j/outputs/o"}},
            "datastore_url: must be azureml://datastores/NAME/paths/PATH",
        ),
        (
            {"type": "azureml_datastore", "config": {"datastore_name": "d", "relative_path": "../x"}},
            "'../x' is not a path below a datastore",
        ),
        ("azureml://models/m", "is not a URL that names a file, folder or model"),
    ],
)
def test_what_a_resource_can_not_say_is_refused(refusal, written, message):
    assert message in refusal(written)


def test_validating_imports_nothing_of_azures(tmp_path):
    file = tmp_path / "config.json"
    model = {"input_model": {"type": "ONNXModel", "config": {"model_path": MODEL}}}
    file.write_text(json.dumps({"azureml_client": CLIENT, **model, **PASSES}))
    program = (
        "import sys, hfopt; hfopt.validate(sys.argv[1]);"
        "print([name for name in sys.modules if name.partition('.')[0] in ('azure', 'msal')])"
    )

    printed = subprocess.run([sys.executable, "-c", program, file], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "[]"


def test_the_keywords_of_signing_in_are_azure_identitys_own():
    from azure.identity import DefaultAzureCredential

    own = {name: kind for kind, name in re.findall(r":keyword (\w+) (\w+):", DefaultAzureCredential.__doc__)}

    assert {name: kind.__name__ for name, kind in AUTH_PARAMS.items()} == own


def test_a_reference_counts_by_what_it_names():
    assert Reference.of_url("azureml://jobs/j/outputs/o") == Reference("azureml", {"url": "azureml://jobs/j/outputs/o"})
    assert Reference.of_url(str(Path("/a/b"))) is None

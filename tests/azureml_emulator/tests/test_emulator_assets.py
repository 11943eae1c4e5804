"""The workspace, its storage, and assets of workspaces and registries, for the SDK as it is."""

from __future__ import annotations

import filecmp

import pytest

pytestmark = pytest.mark.engine

ASSETS = """
    source, target = sys.argv[1:]
    said["workspace"] = ml.workspaces.get(ml.workspace_name).name
    said["datastore"] = ml.datastores.get_default().name
    said["compute"] = ml.compute.get("cpu-cluster").size
    ml.models.download("given", "1", target)
    said["first"] = ml.models.create_or_update(Model(path=source, name="mine", type="custom_model")).version
    said["second"] = ml.models.create_or_update(Model(path=source, name="mine", type="custom_model")).version
    said["latest"] = ml.models.get("mine", label="latest").version
    ml.models.download("mine", "2", target)
    said["data"] = ml.data.create_or_update(Data(path=source, name="rows", version="7", type="uri_folder")).path
    said["again"] = ml.data.get("rows", "7").path
    registry = MLClient(credential, registry_name="azureml-meta")
    registry.models.download("shared", "13", target)
    said["registry"] = registry.models.create_or_update(Model(path=source, name="ours", version="1")).id
    registry.models.download("ours", "1", target)
    for name, get in {
        "workspace": lambda: ml.workspaces.get("no"),
        "model": lambda: ml.models.get("no", "1"),
        "registry": lambda: MLClient(credential, registry_name="no"),
        "registry model": lambda: registry.models.get("no", "1"),
        "compute": lambda: ml.compute.get("no"),
    }.items():
        try:
            get()
            said["missing " + name] = "found"
        except ResourceNotFoundError:
            said["missing " + name] = "not found"
"""


def same(one, other):
    """Two folders hold the same files."""
    names = [file.relative_to(one) for file in one.rglob("*") if file.is_file()]
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names and len(names) == 2


@pytest.mark.parametrize("azureml_emulator", ["sas", "key", "identity"], indirect=True)
def test_assets_of_workspaces_and_registries_are_made_found_and_fetched(azureml_emulator, sdk, model_folder, tmp_path):
    azureml_emulator.add_model("given", model_folder)
    azureml_emulator.add_model("shared", model_folder, "13", "mlflow_model", registry="azureml-meta")

    said = sdk(ASSETS, azureml_emulator.client_env(), model_folder, tmp_path / "got")

    assert said.pop("data").rstrip("/").endswith("/tiny")
    assert said.pop("again").rstrip("/").endswith("/tiny")
    assert said == {
        "workspace": "workspace",
        "datastore": "workspaceblobstore",
        "compute": "STANDARD_DS3_V2",
        "first": "1",
        "second": "2",
        "latest": "2",
        "registry": "azureml://registries/azureml-meta/models/ours/versions/1",
        **dict.fromkeys(["missing workspace", "missing model", "missing registry"], "not found"),
        **dict.fromkeys(["missing registry model", "missing compute"], "not found"),
    }
    assert all(same(model_folder, tmp_path / "got" / name / "tiny") for name in ("given", "mine", "shared", "ours"))
    uploads = [
        request.path for request in azureml_emulator.requests if request.method == "PUT" and request.status == 201
    ]
    assert len([path for path in uploads if path.endswith("/tiny/model.bin")]) == 2, (
        "one for workspace and registry each"
    )

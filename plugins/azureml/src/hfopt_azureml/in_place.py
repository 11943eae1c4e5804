"""What this machine has fetched from a workspace, where it lies there: a job of the workspace reads it in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hfopt_azureml import blobs, resources
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.errand import FETCHED, MANIFEST
from hfopt_azureml.fetching import located
from hfopt_azureml.places import InDatastore, InWorkspace

_RESOURCES: dict[str, type[resources.PlaceConfig]] = {
    "azureml:azureml": resources.UrlConfig,
    "azureml:azureml_model": resources.ModelConfig,
    "azureml:azureml_datastore": resources.DatastoreConfig,
}


def lies(artifact: Path, client: AzureMLClientConfig) -> str | None:
    """Where the files of a fetched artifact lie in the workspace of a client.

    :param artifact: its folder
    :return: the folder's URL; None if it was fetched from elsewhere, is a single file, or has changed since
    :raises AzureError: the place can't be looked at
    """
    manifest: dict[str, Any] = json.loads((artifact / MANIFEST).read_text("utf-8"))
    if manifest["component"] not in _RESOURCES:
        return None
    config = _RESOURCES[manifest["component"]].model_validate(manifest["config"])
    named = config.place
    if not isinstance(named, InWorkspace | InDatastore):
        return None
    connect, place = located(named, config.client, artifact)
    if connect is None or (place.workspace or config.client.workspace) != client.workspace:
        return None
    found = blobs.look(connect(), place.path, client)
    fetched = {file["path"].removeprefix(f"{FETCHED}/"): file["size"] for file in manifest["files"]}
    if found.single or {file.path: file.size for file in found.files} != fetched:
        return None
    if isinstance(named, InDatastore) and not manifest["recipe"]["identity"].endswith(found.digest):
        return None
    return f"azureml://datastores/{place.datastore}/paths/{place.path.rstrip('/')}"

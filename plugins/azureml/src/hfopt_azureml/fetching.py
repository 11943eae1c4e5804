"""From a place in Azure Machine Learning to files in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hfopt import PreconditionFailed, Resolved, ResourceContext
from hfopt_azureml import blobs, registry
from hfopt_azureml.blobs import Connect, Found
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import workspace_client
from hfopt_azureml.places import InDatastore, InJobOutput, InRegistry, InWorkspace, Place, parse
from hfopt_azureml.sentences import speaking
from hfopt_azureml.storage import datastore

_ENDED = frozenset({"Completed", "Failed", "Canceled"})
_FILES = frozenset({"uri_folder", "uri_file", None})
"""Types of outputs that the SDK can download if the job does not say where they lie."""


def resolve(place: Place, client: AzureMLClientConfig, context: ResourceContext) -> Resolved:
    """What a place means now. Versions of models and outputs of jobs do not change: nobody is asked about them.

    :raises PreconditionFailed: there is nothing, or no access to it, or no connection
    """
    if not isinstance(place, InDatastore):
        identity = name_of(place, client)
        return Resolved(identity, identity)
    need_network(place, client, context)
    with speaking(f"datastore {place.datastore}", client):
        digest = _found(_connected(place, client)(), place, client).digest
    name = name_of(place, client)
    return Resolved(f"{name}@{digest}", digest, f"{name}: as it is now, {digest[:12]}")


def fetch(
    place: Place, client: AzureMLClientConfig, pin: str, folder: Path, context: ResourceContext
) -> Mapping[str, Any]:
    """Put the files of a place below a folder.

    :param pin: what `resolve` found
    :return: what was fetched; ``file``, if it is a single one
    :raises PreconditionFailed: as `resolve`; or it has changed
    """
    need_network(place, client, context)
    unfinished = context.unfinished or Path(mkdtemp(dir=folder.parent))
    connect, lies = located(place, client, unfinished)
    if connect is None:
        return _moved(Path(lies.path), folder)
    with speaking(f"{name_of(place, client)}", client):
        found = _found(connect(), lies, client)
        if isinstance(place, InDatastore) and found.digest != pin:
            fact = f"{name_of(place, client)} was changed since the run began"
            raise PreconditionFailed(fact, hint="run again when nothing writes there")
        blobs.download(connect, found.files, folder, unfinished, client, context.progress)
    report = {"files": len(found.files), "bytes": found.size}
    return {**report, "file": found.files[0].path} if found.single else report


def name_of(place: Place, client: AzureMLClientConfig) -> str:
    """A place in full, as an ``azureml://`` URL."""
    if isinstance(place, InRegistry):
        return f"azureml://registries/{place.registry}/models/{place.name}/versions/{place.version}"
    where = place.workspace or client.workspace
    home = (
        f"azureml://subscriptions/{where.subscription_id}/resourcegroups/{where.resource_group}/workspaces/{where.name}"
    )
    if isinstance(place, InWorkspace):
        return f"{home}/models/{place.name}/versions/{place.version}"
    if isinstance(place, InJobOutput):
        return f"{home}/jobs/{place.job}/outputs/{place.output}/paths/{place.path}"
    return f"{home}/datastores/{place.datastore}/paths/{place.path}"


def need_network(place: Place, client: AzureMLClientConfig, context: ResourceContext) -> None:
    """Check that requests may be made.

    :raises PreconditionFailed: this is an offline run
    """
    if context.offline:
        hint = "run once without --offline; what does not change is then in hfopt's cache"
        raise PreconditionFailed(f"{name_of(place, client)} can't be asked for offline", hint=hint)


def located(place: Place, client: AzureMLClientConfig, unfinished: Path) -> tuple[Connect | None, InDatastore]:
    """In which container the files of a place lie, and where in it.

    :return: without a container they are on this machine already, below `unfinished`: the SDK alone could get them
    :raises PreconditionFailed: there is no such thing
    """
    if isinstance(place, InRegistry):
        what = f"model {place.name}:{place.version} in registry {place.registry}"
        with speaking(what, client, "check the names of registry and model, and the version"):
            connect, path = registry.find(client, place)
        return connect, InDatastore(place.registry, path)
    if isinstance(place, InWorkspace):
        with speaking(f"model {place.name}:{place.version}", client):
            model = workspace_client(client, place.workspace).models.get(place.name, version=place.version)
        return located(_in_workspace(str(model.path), place), client, unfinished)
    if isinstance(place, InJobOutput):
        lies = _output(place, client)
        return (None, _by_the_sdk(place, client, unfinished)) if lies is None else located(lies, client, unfinished)
    return _connected(place, client), place


def _connected(place: InDatastore, client: AzureMLClientConfig) -> Connect:
    return datastore(client, place.workspace or client.workspace, place.datastore)


def _found(container: Any, place: InDatastore, client: AzureMLClientConfig) -> Found:
    """What lies at a place.

    :raises PreconditionFailed: nothing does
    """
    found = blobs.look(container, place.path, client)
    if not found.files:
        hint = "check the path: it is taken exactly, and no other that only begins so"
        raise PreconditionFailed(f"{place.datastore} has no file and no folder {place.path}", hint=hint)
    return found


def _in_workspace(url: str, place: InWorkspace | InJobOutput) -> Place:
    """Where the service says that something lies; in the workspace that was asked."""
    try:
        lies = parse(url)
    except ValueError as error:
        raise PreconditionFailed(f"its files lie at {url}, which hfopt can't read") from error
    return lies if isinstance(lies, InRegistry) or lies.workspace else replace(lies, workspace=place.workspace)


def _output(place: InJobOutput, client: AzureMLClientConfig) -> Place | None:
    """Where an output of a job lies; None if the job does not say.

    :raises PreconditionFailed: there is no such output, or not yet
    """
    with speaking(f"job {place.job}", client):
        job = workspace_client(client, place.workspace).jobs.get(place.job)
    status, outputs = str(getattr(job.status, "value", job.status)), dict(getattr(job, "outputs", None) or {})
    if status not in _ENDED:
        raise PreconditionFailed(f"job {place.job} has not ended: it is {status}", hint="run again when it has")
    if place.output not in outputs:
        known = ", ".join(sorted(outputs)) or "none"
        raise PreconditionFailed(f"job {place.job} has no output {place.output!r}; it has {known}")
    output = outputs[place.output]
    if path := str(getattr(output, "path", None) or ""):
        lies = _in_workspace(path, place)
        if isinstance(lies, InDatastore) and place.path:
            return replace(lies, path=f"{lies.path.rstrip('/')}/{place.path}")
        return lies
    if getattr(output, "type", None) not in _FILES:
        hint = "register it as a model, and name that as azureml_model"
        raise PreconditionFailed(f"job {place.job} does not say where output {place.output} lies", hint=hint)
    return None


def _by_the_sdk(place: InJobOutput, client: AzureMLClientConfig, unfinished: Path) -> InDatastore:
    """An output of which only the SDK finds out where it lies; it holds each file in memory."""
    unfinished.mkdir(parents=True, exist_ok=True)
    with speaking(f"output {place.output} of job {place.job}", client):
        jobs = workspace_client(client, place.workspace).jobs
        jobs.download(place.job, download_path=unfinished, output_name=place.output)
    there = unfinished / "named-outputs" / place.output / place.path
    if not there.exists():
        raise PreconditionFailed(f"output {place.output} of job {place.job} has no {place.path or 'files'}")
    return InDatastore(place.output, str(there))


def _moved(there: Path, folder: Path) -> Mapping[str, Any]:
    """What was downloaded, into the folder that it is for."""
    if there.is_file():
        os.rename(there, folder / there.name)
        return {"files": 1, "bytes": (folder / there.name).stat().st_size, "file": there.name}
    for each in there.iterdir():
        os.rename(each, folder / each.name)
    files = [each for each in folder.rglob("*") if each.is_file()]
    return {"files": len(files), "bytes": sum(each.stat().st_size for each in files)}

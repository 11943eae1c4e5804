"""Storage of a workspace or a registry, as containers that can be read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_azureml.blobs import CHUNK, Connect
from hfopt_azureml.client_config import AzureMLClientConfig, Workspace
from hfopt_azureml.clients import credential, workspace_client

if TYPE_CHECKING:
    from azure.ai.ml.entities import Datastore
    from azure.storage.blob import ContainerClient


def datastore(client: AzureMLClientConfig, workspace: Workspace, name: str) -> Connect:
    """Connects to the container of a datastore. Each time it is asked for the datastore's secret, which may run out.

    :raises PreconditionFailed: it is no datastore of blobs
    :raises AzureError: there is no such datastore, or no access to it
    """
    return partial(_container_of, client, workspace, name)


def _container_of(client: AzureMLClientConfig, workspace: Workspace, name: str) -> ContainerClient:
    from azure.ai.ml.entities import AzureBlobDatastore

    found = workspace_client(client, workspace).datastores.get(name, include_secrets=True)
    if not isinstance(found, AzureBlobDatastore):
        kind = type(found).__name__.removesuffix("Datastore")
        raise PreconditionFailed(f"datastore {name} is of the kind {kind}; hfopt reads Azure blob datastores only")
    return container(client, _address(found), found.container_name, _secret(client, found))


def _address(found: Any) -> str:
    return f"{found.protocol}://{found.account_name}.blob.{found.endpoint}"


def _secret(client: AzureMLClientConfig, found: Datastore) -> Any:
    """What a datastore is read with: its signature or key, else the account that is signed in."""
    from azure.ai.ml.entities import AccountKeyConfiguration, SasTokenConfiguration
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

    given = found.credentials
    if isinstance(given, SasTokenConfiguration) and given.sas_token:
        return AzureSasCredential(given.sas_token.lstrip("?"))
    if isinstance(given, AccountKeyConfiguration) and given.account_key:
        return AzureNamedKeyCredential(found.account_name, given.account_key)
    return credential(client)


def container(client: AzureMLClientConfig, address: str, name: str, secret: Any) -> ContainerClient:
    """A client of a container that asks once: the SDK's own retries wait for 15 s and more, and do not follow a 429.

    :param secret: a credential of Azure's; None for storage that is open to all
    """
    from azure.storage.blob import ContainerClient

    size = {"max_single_get_size": CHUNK, "max_chunk_get_size": CHUNK}
    return ContainerClient(address, name, credential=secret, retry_total=0, read_timeout=client.read_timeout, **size)

"""Models of registries, which have a service of their own.

The SDK downloads them by holding each file whole in memory, and has no public call for where they lie, or where new
ones are put. So the requests that it makes for this are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from hfopt import PreconditionFailed
from hfopt_azureml import storage
from hfopt_azureml.blobs import Connect
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import credential
from hfopt_azureml.places import InRegistry
from hfopt_azureml.rest import ask

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

DISCOVERY = "https://eastus.api.azureml.ms/registrymanagement/v1.0"
"""Says of every registry which service has it: one address for all regions."""
SCOPE = "https://management.azure.com/.default"
API_VERSION = "2021-10-01-dataplanepreview"


def find(client: AzureMLClientConfig, place: InRegistry) -> tuple[Connect, str]:
    """Where a model's files lie.

    :return: connects to their container; and the path of the file or folder in it
    :raises PreconditionFailed: the registry does not answer as one
    :raises AzureError: there is no such model, or no access to it
    """
    with _understood(place.registry):
        service, version = _service(client, place.registry), f"{place.name}/versions/{place.version}"
        uri = str(_ask(client, "GET", f"{service}/models/{version}")["properties"]["modelUri"])
    body = {"assetId": f"azureml://registries/{place.registry}/models/{version}", "blobUri": uri}
    return partial(_connect, client, place.registry, "POST", f"{service}/datarefs/{version}", body), _split(uri)[2]


def vacancy(client: AzureMLClientConfig, registry: str, kind: str, name: str, version: str) -> tuple[Connect, str]:
    """Where the files of an asset that is to be registered are put.

    :param kind: ``models`` or ``data``
    :return: connects to a container for them, the same one each time; and its URL
    :raises PreconditionFailed: the registry does not answer as one
    :raises AzureError: there is such an asset already, or no access to the registry
    """
    asset = f"{name}/versions/{version}"
    with _understood(registry):
        service = _service(client, registry)
    body = {
        "assetId": f"azureml://registries/{registry}/{kind}/{asset}",
        "temporaryDataReferenceType": "TemporaryBlobReference",
    }
    connect = partial(_connect, client, registry, "PUT", f"{service}/tempdatarefs/{asset}", body)
    return connect, connect().url.partition("?")[0]


@contextmanager
def _understood(registry: str) -> Iterator[None]:
    """:raises PreconditionFailed: an answer is not what was expected"""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise PreconditionFailed(f"registry {registry} does not answer as registries did: {error}") from error


def _service(client: AzureMLClientConfig, registry: str) -> str:
    """The URL of a registry."""
    home = _ask(client, "GET", f"{DISCOVERY}/registries/{registry}/discovery")
    return (
        f"{str(home['primaryRegionResourceProviderUri']).rstrip('/')}/mferp/managementfrontend"
        f"/subscriptions/{home['subscriptionId']}/resourceGroups/{home['resourceGroup']}"
        f"/providers/Microsoft.MachineLearningServices/registries/{registry}"
    )


def _connect(client: AzureMLClientConfig, registry: str, method: str, url: str, body: Any) -> ContainerClient:
    """A client of the container that a registry names, with a signature of its, which may run out."""
    with _understood(registry):
        given = _ask(client, method, url, body)["blobReferenceForConsumption"]
        signed = given.get("credential", {}).get("sasUri") or given["blobUri"]
    address, name, _ = _split(signed)
    return storage.container(client, address, name, _signature(signed))


def _ask(client: AzureMLClientConfig, method: str, url: str, body: Any = None) -> Any:
    from azure.core.rest import HttpRequest

    version = {} if url.startswith(DISCOVERY) else {"api-version": API_VERSION}
    request = HttpRequest(method, url, params=version, json=body, headers={"Accept": "application/json"})
    return ask(request, credential(client), SCOPE, client)


def _split(url: str) -> tuple[str, str, str]:
    """Address, container and path of a blob's URL."""
    parts = urlsplit(url)
    name, _, path = parts.path.lstrip("/").partition("/")
    return f"{parts.scheme}://{parts.netloc}", name, unquote(path)


def _signature(url: str) -> Any:
    from azure.core.credentials import AzureSasCredential

    query = urlsplit(url).query
    return AzureSasCredential(query) if query else None

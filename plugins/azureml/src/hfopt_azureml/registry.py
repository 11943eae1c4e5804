"""Models of registries, which have a service of their own.

The SDK downloads them by holding each file whole in memory, and has no public call for where they lie. So the three
requests that it makes are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from hfopt import PreconditionFailed
from hfopt_azureml import storage
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


@dataclass(frozen=True)
class Stored:
    """Where a model's files lie.

    :param path: of the file or folder, in the container
    """

    client: AzureMLClientConfig
    place: InRegistry
    service: str
    model: Mapping[str, Any]

    @property
    def path(self) -> str:
        return _split(self._uri)[2]

    @property
    def _uri(self) -> str:
        return str(self.model["properties"]["modelUri"])

    def connect(self) -> ContainerClient:
        """A client of the container, with a signature of the registry's, which may run out."""
        place = self.place
        asset = f"azureml://registries/{place.registry}/models/{place.name}/versions/{place.version}"
        body = {"assetId": asset, "blobUri": self._uri}
        answer = _ask(self.client, "POST", f"{self.service}/datarefs/{place.name}/versions/{place.version}", body)
        given = answer["blobReferenceForConsumption"]
        signed = given.get("credential", {}).get("sasUri") or given["blobUri"]
        address, name, _ = _split(signed)
        return storage.container(self.client, address, name, _signature(signed))


def find(client: AzureMLClientConfig, place: InRegistry) -> Stored:
    """Where a model's files lie.

    :raises PreconditionFailed: the registry does not answer as one
    :raises AzureError: there is no such model, or no access to it
    """
    try:
        home = _ask(client, "GET", f"{DISCOVERY}/registries/{place.registry}/discovery")
        service = (
            f"{str(home['primaryRegionResourceProviderUri']).rstrip('/')}/mferp/managementfrontend"
            f"/subscriptions/{home['subscriptionId']}/resourceGroups/{home['resourceGroup']}"
            f"/providers/Microsoft.MachineLearningServices/registries/{place.registry}"
        )
        stored = Stored(
            client, place, service, _ask(client, "GET", f"{service}/models/{place.name}/versions/{place.version}")
        )
        _ = stored.path
    except (KeyError, TypeError) as error:
        raise PreconditionFailed(f"registry {place.registry} does not answer as registries did: {error}") from error
    return stored


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

"""The workspace: what it is, its datastores and computes, its assets, and the registries beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from azureml_emulator import assets
from azureml_emulator.assets import Assets
from azureml_emulator.azurite import Blobs
from azureml_emulator.identity import ARM
from azureml_emulator.places import (
    ACCOUNT,
    DATASTORE_URI,
    GROUP,
    PROVIDER,
    REGION,
    SUBSCRIPTION,
    WORKSPACE,
    WORKSPACE_ID,
    Place,
    of_datastore,
    of_url,
)
from azureml_emulator.wire import JSON, Answer, Call, Refusal, Route

ARM_HOST = "management.azure.com"
DATA_HOST = f"{REGION}.api.azureml.ms"
GUID = "44444444-4444-4444-4444-444444444444"
DEFAULT_STORE = "workspaceblobstore"
ARTIFACTS = "workspaceartifactstore"
SCOPE = "/subscriptions/{subscription}/resourceGroups/{group}/" + re.escape(PROVIDER)
PREFIX = f"{SCOPE}/workspaces/{{workspace}}"
REGISTRY_PREFIX = f"/mferp/managementfrontend{SCOPE}/registries/{{registry}}"

Storage = Literal["sas", "key", "identity"]


@dataclass
class Workspace:
    """What is in the workspace.

    :ivar storage: how clients get at blobs: by a signature or by the account's key, which they ask for, or by their
        own identity
    :ivar containers: of each datastore
    :ivar outputs: the address of each output of each job
    :ivar computes: name and number of nodes of each; jobs on one without nodes stay queued
    """

    blobs: Blobs
    storage: Storage
    vault: str
    assets: Assets = field(default_factory=lambda: Assets(WORKSPACE_ID))
    registries: dict[str, Assets] = field(default_factory=dict)
    containers: dict[str, str] = field(
        default_factory=lambda: {DEFAULT_STORE: f"azureml-blobstore-{GUID}", ARTIFACTS: "azureml"}
    )
    outputs: dict[tuple[str, str], str] = field(default_factory=dict)
    computes: dict[str, int] = field(default_factory=lambda: {"cpu-cluster": 1})

    def add_registry(self, name: str) -> Assets:
        """A registry, made if it is not there."""
        return self.registries.setdefault(name, Assets(f"azureml://registries/{name}", name))

    def resolve(self, reference: str) -> Place:
        """Where content lies, by any reference to it.

        :raises Refusal: 400 for what is no reference, 404 for what is not there
        """
        if place := of_url(reference):
            return place
        try:
            if place := of_datastore(reference, self.containers):
                return place
        except KeyError as error:
            raise Refusal(404, "UserError", f"Datastore {error} was not found.") from None
        if found := re.fullmatch("azureml://jobs/([^/]+)/outputs/([^/]+)(?:/paths/(.*))?", reference):
            if (found[1], found[2]) not in self.outputs:
                raise Refusal(404, "UserError", f"Job {found[1]} with an output {found[2]} was not found.")
            return self.resolve(self.outputs[found[1], found[2]]).below(found[3] or "")
        scopes = r"(?:azureml:)?.*/workspaces/[^/]+|azureml://registries/(?P<registry>[^/]+)|azureml:/*"
        named = r"/(?P<kind>models|data)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)"
        found = re.fullmatch(rf"(?:{scopes}){named}", reference)
        if found is None:
            raise Refusal(400, "UserError", f"'{reference}' is no reference to content that can be understood.")
        registry = found["registry"]
        if registry is not None and registry not in self.registries:
            raise Refusal(404, "UserError", f"Registry {registry} was not found.")
        holder = self.assets if registry is None else self.registries[registry]
        version = holder.get(found["kind"], found["name"], found["version"])
        return self.resolve(version["properties"][assets.URI_FIELDS[found["kind"]]])

    def address(self, reference: str) -> str:
        """What any reference to content of a datastore means, as the long form of its URI.

        :raises Refusal: as ``resolve``
        """
        place = self.resolve(reference)
        for name, container in self.containers.items():
            if place.container == container:
                return DATASTORE_URI.format(name=name) + place.path
        raise Refusal(400, "UserError", f"'{reference}' is in no datastore.")


def check(call: Call) -> None:
    """The workspace of a request's path is the one there is.

    :raises Refusal: 404
    """
    match = call.match
    if match["subscription"].lower() != SUBSCRIPTION:
        raise Refusal(404, "SubscriptionNotFound", f"The subscription '{match['subscription']}' could not be found.")
    if match["group"].lower() != GROUP:
        raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{match['group']}' could not be found.")
    if match.get("workspace", WORKSPACE).lower() != WORKSPACE:
        name = f"Microsoft.MachineLearningServices/workspaces/{match['workspace']}"
        raise Refusal(404, "ResourceNotFound", f"The Resource '{name}' under resource group '{GROUP}' was not found.")


def routes(workspace: Workspace) -> Iterable[Route]:
    """The requests for all of it."""

    def show(call: Call) -> Answer:
        check(call)
        resources = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
        properties = {
            "workspaceId": GUID,
            "friendlyName": WORKSPACE,
            "discoveryUrl": f"https://{DATA_HOST}/discovery",
            "mlFlowTrackingUri": f"azureml://{DATA_HOST}/mlflow/v1.0{WORKSPACE_ID}",
            "storageAccount": f"{resources}/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            "keyVault": f"{resources}/Microsoft.KeyVault/vaults/{workspace.vault}",
            "provisioningState": "Succeeded",
        }
        answer = {"id": WORKSPACE_ID, "name": WORKSPACE, "location": REGION, "properties": properties}
        return Answer({**answer, "type": "Microsoft.MachineLearningServices/workspaces"})

    def discovery(call: Call) -> Answer:
        services = ("api", "history", "experimentation", "modelmanagement")
        return Answer(dict.fromkeys(services, f"https://{DATA_HOST}"))

    def datastore(name: str) -> JSON:
        kinds = {"sas": "Sas", "key": "AccountKey", "identity": "None"}
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": ACCOUNT,
            "containerName": workspace.containers[name],
            "endpoint": "core.windows.net",
            "protocol": "https",
            "isDefault": name == DEFAULT_STORE,
            "credentials": {"credentialsType": kinds[workspace.storage]},
        }
        return {"id": f"{WORKSPACE_ID}/datastores/{name}", "name": name, "properties": properties}

    def datastores(call: Call) -> Answer:
        check(call)
        every = [datastore(name) for name in workspace.containers]
        default = call.query.get("isDefault", "").lower() == "true"
        return Answer({"value": [each for each in every if each["properties"]["isDefault"] or not default]})

    def one_datastore(call: Call) -> Answer:
        check(call)
        if call.match["name"] not in workspace.containers:
            raise Refusal(404, "UserError", f"Datastore '{call.match['name']}' was not found.")
        return Answer(datastore(call.match["name"]))

    def secrets(call: Call) -> Answer:
        name = one_datastore(call).body["name"]
        if workspace.storage == "identity":
            return Answer({"secretsType": "None"})
        if workspace.storage == "key":
            return Answer({"secretsType": "AccountKey", "key": workspace.blobs.keys[ACCOUNT]})
        hours = float(call.json.get("expireAfterHours", 1))
        return Answer(
            {"secretsType": "Sas", "sasToken": workspace.blobs.sas(ACCOUNT, workspace.containers[name], hours)}
        )

    def compute(call: Call) -> Answer:
        check(call)
        name = call.match["name"]
        if name not in workspace.computes:
            raise Refusal(404, "ResourceNotFound", f"The compute '{name}' was not found.")
        scale = {"minNodeCount": 0, "maxNodeCount": workspace.computes[name]}
        properties = {
            "computeType": "AmlCompute",
            "provisioningState": "Succeeded",
            "properties": {"vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated", "scaleSettings": scale},
        }
        return Answer(
            {"id": f"{WORKSPACE_ID}/computes/{name}", "name": name, "location": REGION, "properties": properties}
        )

    def registry_discovery(call: Call) -> Answer:
        name = call.match["registry"]
        if name not in workspace.registries:
            raise Refusal(404, "RegistryNotFound", f"Registry {name} was not found.")
        return Answer(
            {
                "registryName": name,
                "subscriptionId": SUBSCRIPTION,
                "resourceGroup": GROUP,
                "primaryRegion": REGION,
                "primaryRegionResourceProviderUri": f"https://{DATA_HOST}/",
            }
        )

    def of_workspace(call: Call) -> Assets:
        check(call)
        return workspace.assets

    def of_registry(call: Call) -> Assets:
        check(call)
        registry_discovery(call)
        return workspace.registries[call.match["registry"]]

    yield Route("GET", ARM_HOST, PREFIX, show, ARM)
    yield Route("GET", DATA_HOST, "/discovery", discovery)
    yield Route("GET", ARM_HOST, f"{PREFIX}/datastores", datastores, ARM)
    yield Route("GET", ARM_HOST, f"{PREFIX}/datastores/{{name}}", one_datastore, ARM)
    yield Route("POST", ARM_HOST, f"{PREFIX}/datastores/{{name}}/listSecrets", secrets, ARM)
    yield Route("GET", ARM_HOST, f"{PREFIX}/computes/{{name}}", compute, ARM)
    discovery_path = r"/registrymanagement/v1\.0/registries/{registry}/discovery"
    yield Route("GET", "*.api.azureml.ms", discovery_path, registry_discovery, ARM)
    yield from assets.routes(ARM_HOST, PREFIX, workspace.blobs, of_workspace, workspace.address)
    yield from assets.routes(DATA_HOST, REGISTRY_PREFIX, workspace.blobs, of_registry, workspace.address)

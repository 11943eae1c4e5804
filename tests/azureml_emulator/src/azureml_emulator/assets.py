"""Models, data, environments and code: versions of named things, of the workspace or of a registry."""

from __future__ import annotations

import datetime
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from azureml_emulator.azurite import Blobs
from azureml_emulator.identity import ARM
from azureml_emulator.places import ACCOUNT, REGISTRY_ACCOUNT, Place, of_url
from azureml_emulator.wire import JSON, Answer, Call, Refusal, Route

URI_FIELDS = {"models": "modelUri", "data": "dataUri", "codes": "codeUri"}


@dataclass
class Assets:
    """The assets of a workspace or a registry.

    :ivar scope: how the ids of its assets begin
    :ivar registry: its name, or None for a workspace
    :ivar versions: for each kind and name, in the order of creation, what a version is
    """

    scope: str
    registry: str | None = None
    versions: dict[tuple[str, str], dict[str, JSON]] = field(default_factory=dict)

    def get(self, kind: str, name: str, version: str) -> JSON:
        """A version as the service describes it.

        :raises Refusal: 404
        """
        try:
            return self.versions[kind, name][version]
        except KeyError:
            text = f"Could not find asset with ID: {self.scope}/{kind}/{name}/versions/{version}"
            raise Refusal(404, "NotFound", text) from None

    def put(self, kind: str, name: str, version: str, properties: JSON) -> tuple[JSON, bool]:
        """Add a version, or change tags and the like of one that is there.

        :return: the version, and whether it is new
        :raises Refusal: 409, if the version is there with other content
        """
        versions = self.versions.setdefault((kind, name), {})
        uri = URI_FIELDS.get(kind, "")
        if version in versions and versions[version]["properties"].get(uri) != properties.get(uri):
            text = f"A {kind} with this name and version already exists: {name}:{version}. Its content is immutable."
            raise Refusal(409, "Conflict", text)
        given = {"flavors": {}, **properties} if kind == "models" else properties  # the SDK needs an object there
        new = version not in versions
        now = datetime.datetime.now(datetime.UTC).isoformat()
        made = {"createdAt": now, "createdBy": "client", "createdByType": "Application", "lastModifiedAt": now}
        versions[version] = {
            "id": f"{self.scope}/{kind}/{name}/versions/{version}",
            "name": version,
            "type": f"Microsoft.MachineLearningServices/workspaces/{kind}/versions",
            "properties": {key: value for key, value in given.items() if value is not None},
            "systemData": made if new else {**versions[version]["systemData"], "lastModifiedAt": now},
        }
        return versions[version], new

    def container(self, kind: str, name: str) -> JSON:
        """A name with its latest and next version.

        :raises Refusal: 404
        """
        if (kind, name) not in self.versions:
            raise Refusal(404, "NotFound", f"Could not find asset container {self.scope}/{kind}/{name}")
        *_, latest = self.versions[kind, name]
        following = max((int(version) for version in self.versions[kind, name] if version.isdecimal()), default=0) + 1
        properties = {"latestVersion": latest, "nextVersion": str(following), "isArchived": False}
        return {"id": f"{self.scope}/{kind}/{name}", "name": name, "properties": properties}

    def list(self, kind: str, name: str, content_hash: str | None) -> list[JSON]:
        """A name's versions, or those of any name with this content; the newest first."""
        if content_hash is None:
            return list(self.versions.get((kind, name), {}).values())[::-1]
        found = (each for (of, _), versions in self.versions.items() if of == kind for each in versions.values())
        return [
            each for each in found if (each["properties"].get("properties") or {}).get("hash_sha256") == content_hash
        ]


def registry_place(registry: str, kind: str, name: str, version: str) -> Place:
    """Where a registry keeps the content of an asset: in a container of its own."""
    digest = hashlib.sha256(f"{kind}/{name}:{version}".encode()).hexdigest()[:12]
    return Place(REGISTRY_ACCOUNT, f"{registry.lower()[:40]}-{digest}")


def reference(blobs: Blobs, place: Place, name: str) -> JSON:
    """Where content lies, with a signature for it, in the form that all such requests share."""
    blobs.container(place.account, place.container)
    root = Place(place.account, place.container)
    signed = f"{root.url}?{blobs.sas(place.account, place.container)}"
    account = f"{ARM}/subscriptions/storage/{place.account}"
    return {
        name: {
            "blobUri": place.url,
            "storageAccountArmId": account,
            "credential": {"credentialType": "SAS", "sasUri": signed},
        }
    }


def routes(
    host: str, prefix: str, blobs: Blobs, scope: Callable[[Call], Assets], address: Callable[[str], str]
) -> Iterable[Route]:
    """The requests for assets below a workspace's or a registry's path.

    :param scope: whose assets a request is for; raises Refusal 404
    :param address: the datastore URI of what a reference names; raises Refusal
    """

    def container(call: Call) -> Answer:
        return Answer(scope(call).container(call.match["kind"], call.match["name"]))

    def versions(call: Call) -> Answer:
        found = scope(call).list(call.match["kind"], call.match["name"], call.query.get("hash"))
        return Answer({"value": found[: int(call.query.get("$top", len(found)))]})

    def show(call: Call) -> Answer:
        return Answer(scope(call).get(call.match["kind"], call.match["name"], call.match["version"]))

    def put(call: Call) -> Answer:
        kind, properties = call.match["kind"], dict(call.json["properties"])
        uri = properties.get(URI_FIELDS.get(kind, ""))
        if uri and uri.startswith("azureml://jobs/"):
            properties[URI_FIELDS[kind]] = address(uri)
        version, new = scope(call).put(kind, call.match["name"], call.match["version"], properties)
        return Answer(version, 201 if new else 200)

    def pending(call: Call) -> Answer:
        identifier = str(uuid.uuid4())
        answer = reference(blobs, Place(ACCOUNT, identifier), "blobReferenceForConsumption")
        return Answer({"pendingUploadId": identifier, "pendingUploadType": "TemporaryBlobReference", **answer})

    def registry_upload(call: Call) -> Answer:
        assets = scope(call)
        name, version = call.match["name"], call.match["version"]
        asset = rf"azureml://registries/[^/]+/([^/]+)/{re.escape(name)}/versions/{re.escape(version)}"
        if (found := re.fullmatch(asset, call.json["assetId"])) is None:
            raise Refusal(400, "UserError", "assetId is of another asset than the path")
        if version in assets.versions.get((found[1], name), {}):
            raise Refusal(409, "Conflict", f"Asset {name}:{version} already exists")
        place = registry_place(str(assets.registry), found[1], name, version)
        return Answer(reference(blobs, place, "blobReferenceForConsumption"))

    def registry_download(call: Call) -> Answer:
        scope(call)
        place = of_url(call.json["blobUri"])
        if place is None or place.account != REGISTRY_ACCOUNT:
            raise Refusal(400, "UserError", "blobUri is none of this registry's")
        return Answer(reference(blobs, place, "blobReferenceForConsumption"))

    kinds = f"{prefix}/(?P<kind>models|data|environments|codes)/{{name}}"
    yield Route("GET", host, kinds, container, ARM)
    yield Route("GET", host, f"{kinds}/versions", versions, ARM)
    yield Route("GET", host, f"{kinds}/versions/{{version}}", show, ARM)
    yield Route("PUT", host, f"{kinds}/versions/{{version}}", put, ARM)
    yield Route("POST", host, f"{kinds}/versions/{{version}}/startPendingUpload", pending, ARM)
    yield Route("PUT", host, f"{prefix}/tempdatarefs/{{name}}/versions/{{version}}", registry_upload, ARM)
    yield Route("POST", host, f"{prefix}/datarefs/{{name}}/versions/{{version}}", registry_download, ARM)

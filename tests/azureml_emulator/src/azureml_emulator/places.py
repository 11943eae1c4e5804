"""Where things lie: what an ``azureml:`` or ``https:`` reference means as an account, a container and a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from azureml_emulator.azurite import SUFFIX

REGION = "eastus"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "group"
WORKSPACE = "workspace"
PROVIDER = "providers/Microsoft.MachineLearningServices"
WORKSPACE_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{PROVIDER}/workspaces/{WORKSPACE}"
DATASTORE_URI = (
    f"azureml://subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/workspaces/{WORKSPACE}/datastores/{{name}}/paths/"
)
ACCOUNT = "emulatorworkspace"
REGISTRY_ACCOUNT = "emulatorregistries"


@dataclass(frozen=True)
class Place:
    """A blob or what is below a path."""

    account: str
    container: str
    path: str = ""

    @property
    def url(self) -> str:
        """As the blob service has it."""
        return f"https://{self.account}{SUFFIX}/{self.container}/{self.path}".rstrip("/")

    def below(self, path: str) -> Place:
        """A place in this one."""
        return Place(self.account, self.container, "/".join(part.strip("/") for part in (self.path, path) if part))


def of_url(url: str) -> Place | None:
    """The place of a blob's URL, or None if it is none."""
    found = re.fullmatch(rf"https://(\w+){re.escape(SUFFIX)}/([^/?]+)/?([^?]*)(\?.*)?", url)
    return Place(found[1], found[2], found[3]) if found else None


def of_datastore(uri: str, containers: Mapping[str, str]) -> Place | None:
    """The place of a path in a datastore, short or long form, or None if it is none.

    :param containers: of the datastores
    :raises KeyError: for a datastore that is not there
    """
    long = rf"azureml://subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/workspaces/{WORKSPACE}/"
    found = re.fullmatch(rf"(?:azureml://|{long})datastores/([^/]+)/paths/(.*)", uri, re.IGNORECASE)
    return Place(ACCOUNT, containers[found[1]], found[2]) if found else None

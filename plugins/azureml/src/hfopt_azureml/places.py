"""Where things lie in Azure Machine Learning, and the ``azureml://`` URLs that say so. Asks nobody."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from hfopt_azureml.client_config import Workspace

SCHEME = "azureml://"
_FORMS = {
    "datastore": r"datastores/(?P<datastore>[^/]+)/paths/(?P<path>.+)",
    "job output": r"jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/(?:paths/)?(?P<path>.*))?",
    "registry model": r"registries/(?P<registry>[^/]+)/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)",
    "model": r"models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)",
}
_WORKSPACE = r"subscriptions/([^/]+)/resourcegroups/([^/]+)/(?:providers/[^/]+/)?workspaces/([^/]+)/"
_EXAMPLES = (
    "azureml://datastores/NAME/paths/PATH, azureml://jobs/NAME/outputs/NAME/paths/PATH or "
    "azureml://registries/NAME/models/NAME/versions/VERSION, the first two perhaps with "
    "subscriptions/ID/resourcegroups/NAME/workspaces/NAME/ after azureml://"
)


@dataclass(frozen=True)
class InDatastore:
    """A file or folder in a datastore.

    :param path: without a slash at its beginning; one at its end says that it is a folder
    :param workspace: None: the client's
    """

    datastore: str
    path: str
    workspace: Workspace | None = None


@dataclass(frozen=True)
class InJobOutput:
    """An output of a job, or a file or folder in it.

    :param path: empty: the whole output
    """

    job: str
    output: str
    path: str = ""
    workspace: Workspace | None = None


@dataclass(frozen=True)
class InRegistry:
    """A version of a model in a registry."""

    registry: str
    name: str
    version: str


@dataclass(frozen=True)
class InWorkspace:
    """A version of a model in a workspace."""

    name: str
    version: str
    workspace: Workspace | None = None


Place = InDatastore | InJobOutput | InRegistry | InWorkspace


def parse(url: str) -> Place:
    """What an ``azureml://`` URL names.

    :raises ValueError: it is none that names a file, a folder or a model
    """
    workspace, rest = None, url.removeprefix(SCHEME)
    if found := re.match(_WORKSPACE, rest, re.IGNORECASE):
        workspace, rest = Workspace(*map(unquote, found.groups())), rest[found.end() :]
    for kind, form in _FORMS.items():
        if url.startswith(SCHEME) and (fits := re.fullmatch(form, rest, re.IGNORECASE)):
            parts = {name: unquote(each or "") for name, each in fits.groupdict().items()}
            if "path" in parts:
                parts["path"] = inside(parts["path"])
            return _place(kind, parts, workspace)
    raise ValueError(f"{url!r} is not a URL that names a file, folder or model: those are {_EXAMPLES}")


def _place(kind: str, parts: dict[str, str], workspace: Workspace | None) -> Place:
    if kind == "registry model":
        return InRegistry(**parts)
    if kind == "model":
        return InWorkspace(**parts, workspace=workspace)
    if kind == "job output":
        return InJobOutput(**parts, workspace=workspace)
    return InDatastore(**parts, workspace=workspace)


def inside(path: str) -> str:
    """A path below a datastore or output, without a slash at its beginning.

    :raises ValueError: it leads out
    """
    if ".." in path.split("/") or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} is not a path below a datastore or an output")
    return path.lstrip("/")

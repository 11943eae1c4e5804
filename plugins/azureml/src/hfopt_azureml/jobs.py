"""Command jobs of a workspace: submitted under a name that hfopt chose, asked about, cancelled; and their logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import passing, patiently, workspace_client
from hfopt_azureml.depot import Container
from hfopt_azureml.sentences import speaking
from hfopt_azureml.storage import datastore
from hfopt_azureml.vault import KEYVAULT

ENDED = frozenset({"Completed", "Failed", "Canceled", "NotResponding"})
WAITING = frozenset({"NotStarted", "Queued", "Provisioning", "Preparing", "Starting"})
"""Statuses of a job whose command has not begun."""
EXPERIMENT = "hfopt"
LOGS = "workspaceartifactstore"
LOG = "ExperimentRun/dcid.{name}/user_logs/std_log.txt"


@dataclass(frozen=True)
class State:
    """How a job is.

    :param status: as the service spells it
    :param studio: the address of its page; empty if the service says none
    """

    status: str
    studio: str

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class CommandJob:
    """What is submitted.

    :param inputs: URL of each input's folder, by name
    :param output: URL of the folder of its output ``made``
    :param vault: the key vault that has the hub's token for it, which the compute's identity reads
    :param more: of the SDK's ``command``
    """

    name: str
    title: str
    command: str
    environment: str
    compute: str
    inputs: Mapping[str, str]
    output: str
    vault: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def state(client: AzureMLClientConfig, name: str) -> State | None:
    """How a job is; None if there is none of that name.

    :raises PreconditionFailed: the service can't be asked, however often
    """
    from azure.core.exceptions import ResourceNotFoundError

    with speaking(f"job {name}", client):
        try:
            return _state(patiently(client, lambda: workspace_client(client).jobs.get(name)))
        except ResourceNotFoundError:
            return None


def submit(client: AzureMLClientConfig, job: CommandJob) -> State:
    """Submit a job; one that is there under its name already, because another host was first, stands for it.

    :raises PreconditionFailed: the service refuses it
    """
    from azure.ai.ml import Input, Output, command
    from azure.ai.ml.entities import ManagedIdentityConfiguration
    from azure.core.exceptions import HttpResponseError

    login: dict[str, Any] = {}
    if job.vault is not None:
        login = {"identity": ManagedIdentityConfiguration(), "environment_variables": {KEYVAULT: job.vault}}
    made = command(
        name=job.name,
        display_name=job.title,
        experiment_name=EXPERIMENT,
        command=job.command,
        environment=job.environment,
        compute=job.compute,
        inputs={name: Input(type="uri_folder", path=url, mode="download") for name, url in job.inputs.items()},
        outputs={"made": Output(type="uri_folder", path=job.output, mode="rw_mount")},
        **login,
        **job.more,
    )
    with speaking(f"job {job.name}", client):
        try:
            return _state(workspace_client(client).jobs.create_or_update(made))
        except HttpResponseError as error:
            if error.status_code == 409 and (there := state(client, job.name)) is not None:
                return there
            raise


def cancel(client: AzureMLClientConfig, name: str) -> bool:
    """Ask for a job's end.

    :return: whether the service has heard it; False if there is no such job
    :raises AzureError: it has not
    """
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    try:
        workspace_client(client).jobs.begin_cancel(name)
    except ResourceNotFoundError:
        return False
    except HttpResponseError as error:
        if error.status_code != 400:  # what has ended can't be cancelled
            raise
    return True


def _state(job: Any) -> State:
    services = job.services or {}
    page = services.get("Studio")
    return State(str(getattr(job.status, "value", job.status)), str(getattr(page, "endpoint", None) or ""))


class Log:
    """What a job prints, as it grows.

    :param show: takes whole lines
    """

    def __init__(self, client: AzureMLClientConfig, name: str, show: Callable[[str], None]) -> None:
        self._container = Container(client, datastore(client, client.workspace, LOGS))
        self._name = LOG.format(name=name)
        self._show = show
        self._read = 0
        self._begun = b""

    def follow(self, *, to_its_end: bool = False) -> None:
        """Show what is new. What can't be had now, while the job runs, is left for the next time.

        :param to_its_end: the job has ended: also a last line that has no end
        :raises AzureError: it can't be read
        """
        from azure.core.exceptions import AzureError

        try:
            new = self._container.read(self._name, self._read) or b""
        except AzureError as error:
            if to_its_end or not passing(error):
                raise
            return
        self._read += len(new)
        *whole, self._begun = (self._begun + new).split(b"\n")
        if to_its_end and self._begun:
            whole, self._begun = [*whole, self._begun], b""
        for line in whole:
            self._show(line.decode("utf-8", "backslashreplace").rstrip("\r"))

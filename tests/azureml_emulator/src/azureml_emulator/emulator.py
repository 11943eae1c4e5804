"""The emulator as a whole: started, filled, asked what has happened, ended."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Self

import certifi
import trustme

from azureml_emulator import identity, jobs, node, vault, workspace
from azureml_emulator.assets import registry_place
from azureml_emulator.azurite import SUFFIX, Blobs
from azureml_emulator.faults import Faults
from azureml_emulator.identity import CLIENT, LOGIN_HOST, TENANT, Identities
from azureml_emulator.jobs import TERMINAL, Jobs
from azureml_emulator.node import Job
from azureml_emulator.places import ACCOUNT, DATASTORE_URI, REGISTRY_ACCOUNT, Place
from azureml_emulator.proxy import Proxy, Standing
from azureml_emulator.server import Request, Server
from azureml_emulator.vault import HUB, Vault
from azureml_emulator.wire import JSON, Route
from azureml_emulator.workspace import ARM_HOST, DATA_HOST, DEFAULT_STORE, Storage, Workspace

VAULT = "emulatorvault"
_ACCOUNTS = (ACCOUNT, REGISTRY_ACCOUNT)
_SERVED = (ARM_HOST, DATA_HOST, LOGIN_HOST, HUB, *(f"{account}{SUFFIX}" for account in _ACCOUNTS))
_AZURE = ("*.api.azureml.ms", f"*{vault.SUFFIX}", f"*{SUFFIX}")
_MACHINES = "169.254.169.254"
"""Where a virtual machine asks for its identity; this is none."""
_OWN = ("AZURE*", "MSI_*", "IDENTITY_*", "ARM_*", "*_PROXY", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "HF_TOKEN*")
"""Variables of the process that starts the emulator which would lead a client elsewhere."""


class Emulator:
    """AzureML on loopback: the workspace ``workspace`` of the resource group ``group``. A context.

    Clients reach it with the environment of :meth:`client_env`, and need nothing else.

    :param folder: where blobs, jobs, certificates and logs lie; empty, or made
    :param storage: how clients get at blobs: with signatures (``sas``), with the account's key, or as themselves
    :ivar faults: what goes wrong
    :ivar identities: who can log in, and for how long
    :ivar vaults: Key Vault's vaults by name; there is one already, which the workspace names as its own
    :ivar hub_tokens: tokens that huggingface.co knows, and whose they are
    :ivar image: variables that the image of every environment sets
    :raises FileExistsError: on entry, if the folder is not empty
    :raises NotInstalled: on entry, if Azurite is not there
    """

    def __init__(self, folder: Path, storage: Storage = "sas") -> None:
        self.folder = folder.resolve()
        self.storage: Storage = storage
        self.faults = Faults()

    # -- its life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise FileExistsError(f"{self.folder} is not empty")
        authority = trustme.CA()
        loopback = self.folder / "loopback.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(loopback))
        self.authorities = self.folder / "authorities.pem"
        self.authorities.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*_SERVED, *_AZURE).configure_cert(tls)
        with ExitStack() as stack:
            self.blobs = Blobs(self.folder, _ACCOUNTS, loopback, self.authorities)
            stack.callback(self.blobs.close)
            trust = ssl.create_default_context(cafile=str(self.authorities))
            self._server = Server(self.faults, self.blobs.port, trust)
            self._proxy = Proxy(self._standing)
            self._begin()
            stack.enter_context(_serving(self._server, self._proxy, tls))
            stack.callback(lambda: self._jobs.close())
            self._stack = stack.pop_all()
        return self

    def _begin(self) -> None:
        """Make what is there at first."""
        self.identities = Identities()
        self.vaults = {VAULT: Vault(frozenset({"compute"}))}
        self.hub_tokens: dict[str, str] = {}
        self.image: dict[str, str] = {}
        self.workspace = Workspace(self.blobs, self.storage, VAULT)
        self._jobs = Jobs(self.workspace, self.folder / "jobs", self._job_environment)
        for container in self.workspace.containers.values():
            self.blobs.container(ACCOUNT, container)
        self.add_environment("local")
        self._server.serve(self._routes(), self.identities)

    def reset(self) -> None:
        """Make it as new: jobs end, what was put there goes, nothing has been asked, nothing goes wrong."""
        self.faults.clear()
        self._jobs.close()
        shutil.rmtree(self.folder / "jobs", ignore_errors=True)
        self.blobs.clear()
        self._begin()
        for record in (self.requests, self.unknown, self.refused):
            record.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _routes(self) -> Iterator[Route]:
        yield from identity.routes(self.identities)
        yield from workspace.routes(self.workspace)
        yield from jobs.routes(self._jobs, self.workspace)
        yield from vault.routes(self.vaults, self.hub_tokens, self.identities)

    def _standing(self, host: str) -> Standing:
        if host in _SERVED or host.removesuffix(vault.SUFFIX) in self.vaults:
            return "served"
        return "missing" if any(fnmatch(host, pattern) for pattern in (*_AZURE, _MACHINES)) else "foreign"

    # -- for clients ---------------------------------------------------------------------------------------------------

    def variables(self) -> dict[str, str]:
        """What leads a client here and logs it in as the identity ``client``."""
        return {
            **self.network(),
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_CLIENT_SECRET": self.identities.client_secret,
            "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
            "AZUREML_RUN_POLLING_INTERVAL_MAX": "2",
        }

    def client_env(self) -> dict[str, str]:
        """The environment for a process under test: this process's, and what leads it here."""
        return {**outside(os.environ), **self.variables()}

    def network(self) -> dict[str, str]:
        """What leads a process here, without an identity."""
        proxy = f"http://127.0.0.1:{self._proxy.port}"
        names = ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
        direct = {"NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1"}
        trust = {"REQUESTS_CA_BUNDLE": str(self.authorities), "SSL_CERT_FILE": str(self.authorities)}
        return {**dict.fromkeys(names, proxy), **direct, **trust}

    def _job_environment(self, job: Job) -> dict[str, str]:
        endpoint = f"http://127.0.0.1:{self._server.plain_port}/msi/token"
        return {**self.image, **self.network(), **node.managed_identity(job, endpoint, self.identities.node_secret)}

    # -- what is in it -------------------------------------------------------------------------------------------------

    def add_blob(self, source: Path, path: str, datastore: str = DEFAULT_STORE) -> str:
        """A file, or all files of a folder, at a path of a datastore.

        :return: its ``azureml://`` address, the long form
        """
        self.blobs.upload(source, ACCOUNT, self.workspace.containers[datastore], path)
        return DATASTORE_URI.format(name=datastore) + path

    def add_model(
        self, name: str, source: Path, version: str = "1", kind: str = "custom_model", registry: str | None = None
    ) -> str:
        """A model of the workspace or of a registry, which is made if it is not there.

        :return: how a job's input names it
        """
        return self._add("models", name, source, version, {"modelType": kind}, registry)

    def add_data(self, name: str, source: Path, version: str = "1", registry: str | None = None) -> str:
        """A data asset of the workspace or of a registry: a file or a folder.

        :return: how a job's input names it
        """
        kind = "uri_file" if source.is_file() else "uri_folder"
        return self._add("data", name, source, version, {"dataType": kind}, registry)

    def _add(self, kind: str, name: str, source: Path, version: str, properties: JSON, registry: str | None) -> str:
        field = {"models": "modelUri", "data": "dataUri"}[kind]
        if registry is None:
            holder = self.workspace.assets
            uri = self.add_blob(source, f"{kind}/{name}/{version}/{source.name}")
            reference = f"azureml:{name}:{version}"
        else:
            holder = self.workspace.add_registry(registry)
            place = registry_place(registry, kind, name, version).below(source.name)
            self.blobs.upload(source, place.account, place.container, place.path)
            uri, reference = place.url, f"azureml://registries/{registry}/{kind}/{name}/versions/{version}"
        holder.put(kind, name, version, {**properties, field: uri})
        return reference

    def add_environment(self, name: str, version: str = "1", image: str = "python:3.11-slim") -> str:
        """An environment of the workspace; there is ``local`` already. Jobs run in this process's whatever it says."""
        self.workspace.assets.put("environments", name, version, {"image": image})
        return f"azureml:{name}:{version}"

    def add_compute(self, name: str, nodes: int = 1) -> None:
        """A compute. A job on one without nodes stays queued; there is ``cpu-cluster`` already, with one node."""
        with self._jobs.changed:
            self.workspace.computes[name] = nodes
            self._jobs.changed.notify_all()

    def add_vault(self, name: str, readers: Iterable[str] = ("compute",)) -> None:
        """A vault whose secrets these identities may get: ``compute``, ``client``."""
        self.vaults[name] = Vault(frozenset(readers))

    def add_secret(self, name: str, value: str, vault: str = VAULT) -> None:
        """A secret in a vault."""
        self.vaults[vault].secrets[name] = value

    def read_blob(self, place: Place) -> bytes:
        """What a blob holds.

        :raises azure.core.exceptions.ResourceNotFoundError: if there is none
        """
        return self.blobs.container(place.account, place.container).download_blob(place.path).readall()

    # -- what has happened ---------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs by name, in the order of submission."""
        return self._jobs.all

    def wait(self, job: str, *statuses: str, seconds: float = 30) -> str:
        """Wait until a job has one of these statuses, or has ended.

        :return: its status
        :raises TimeoutError: after so many seconds
        """
        wanted = TERMINAL | set(statuses)
        with self._jobs.changed:
            if self._jobs.changed.wait_for(lambda: job in self.jobs and self.jobs[job].status in wanted, seconds):
                return self.jobs[job].status
        raise TimeoutError(f"job {job} has not become any of {sorted(wanted)} in {seconds:g} seconds")

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they ended."""
        return self._server.requests

    @property
    def uploads(self) -> Counter[str]:
        """How often the content of each blob was sent in full: host and path."""
        blocks = {"block", "metadata", "properties", "tags", "lease"}
        written = (each for each in self.requests if each.method == "PUT" and each.host.endswith(SUFFIX))
        return Counter(
            each.host + each.path for each in written if each.status == 201 and each.query.get("comp") not in blocks
        )

    @property
    def unknown(self) -> list[str]:
        """Requests that the emulator could not answer because it has no such route."""
        return self._server.unknown

    @property
    def refused(self) -> list[str]:
        """Hosts that are not Azure's and that a client asked for."""
        return self._proxy.refused


def outside(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """An environment without what would lead a client of Azure anywhere."""
    own = {name for name in environment if any(fnmatch(name.upper(), pattern) for pattern in _OWN)}
    return {name: value for name, value in environment.items() if name not in own}


@contextmanager
def _serving(server: Server, proxy: Proxy, tls: ssl.SSLContext) -> Iterator[None]:
    """Serve in a thread."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        try:
            await server.start(tls)
            await proxy.start(server.secure_port)
        except BaseException as error:
            started.set_exception(error)
            raise
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await proxy.close()
        await server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="azureml-emulator", daemon=True)
    thread.start()
    loop, stop = started.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()

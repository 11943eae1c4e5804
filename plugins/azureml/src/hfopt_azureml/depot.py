"""The folder ``hfopt`` of a workspace's default datastore: what jobs read and write. Content is sent there once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hfopt.api.config import ReportProgress
from hfopt_azureml import blobs
from hfopt_azureml.blobs import CHUNK, Connect, Found
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import patiently, workspace_client
from hfopt_azureml.storage import datastore

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

T = TypeVar("T")
TOP = "hfopt"
Files = Mapping[str, Path]
"""Files of this machine by their paths in the depot."""


class Container:
    """A container that is asked patiently, with a signature that is had anew when it has run out."""

    def __init__(self, client: AzureMLClientConfig, connect: Connect) -> None:
        self.connect = connect
        self._client = client
        self._current = connect()

    def ask(self, request: Callable[[ContainerClient], T]) -> T:
        """What a request yields.

        :raises AzureError: the last failure
        """
        from azure.core.exceptions import AzureError

        try:
            return patiently(self._client, lambda: request(self._current))
        except AzureError as error:
            if not blobs.run_out(error):
                raise
        self._current = self.connect()
        return patiently(self._client, lambda: request(self._current))

    def read(self, name: str, offset: int = 0) -> bytes | None:
        """What a blob holds from some byte on; None if it is not there, or no longer than that."""
        from azure.core.exceptions import HttpResponseError

        try:
            return self.ask(lambda container: bytes(container.download_blob(name, offset=offset or None).readall()))
        except HttpResponseError as error:
            if error.status_code in (404, 416):
                return None
            raise

    def look(self, path: str) -> Found:
        """What lies in a folder."""
        once = self._client.model_copy(update={"max_operation_retries": 0})
        return self.ask(lambda container: blobs.look(container, f"{path}/", once))

    def send(self, path: str, files: Files, progress: ReportProgress) -> None:
        """Put files into a folder, several at once. After a break only the block that it befell is sent again.

        :raises AzureError: one can't be sent
        """
        total, done, lock = sum(file.stat().st_size for file in files.values()), 0, threading.Lock()

        def count(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                progress("upload", done, total)

        sending = [partial(self._send_file, f"{path}/{name}", file, count) for name, file in files.items()]
        blobs.several("upload", sending)

    def _send_file(self, name: str, file: Path, count: Callable[[int], None]) -> None:
        """Send a file in blocks, each as often as it takes; it is there when all of it is."""
        from azure.storage.blob import BlobBlock

        blocks = []
        with file.open("rb") as opened:
            for number, block in enumerate(iter(partial(opened.read, CHUNK), b"")):
                blocks.append(BlobBlock(block_id=f"{number:08d}"))
                self.ask(partial(_stage, name=name, block_id=blocks[-1].id, block=block))
                count(len(block))
        self.ask(lambda container: container.get_blob_client(name).commit_block_list(blocks))


class Depot(Container):
    """The default datastore's container.

    :param progress: is told of what is sent
    """

    def __init__(self, client: AzureMLClientConfig, progress: ReportProgress) -> None:
        self.store = str(workspace_client(client).datastores.get_default().name)
        super().__init__(client, datastore(client, client.workspace, self.store))
        self._progress = progress
        self._lock = threading.Lock()
        self._there: set[str] = set()

    def url(self, path: str) -> str:
        """How a job's definition names a folder."""
        return f"azureml://datastores/{self.store}/paths/{path}"

    def bring(self, path: str, files: Files) -> str:
        """See that a folder has files. What is there is not sent again: a folder's path says what is in it.

        :return: the folder's URL
        :raises AzureError: it can't be sent
        """
        with self._lock:
            if path not in self._there:
                there = {file.path: file.size for file in self.look(path).files}
                missing = {name: file for name, file in files.items() if there.get(name) != file.stat().st_size}
                self.send(path, missing, self._progress)
                self._there.add(path)
        return self.url(path)

    def has(self, path: str, name: str) -> bool:
        """Whether a folder has a file."""
        return path in self._there or any(file.path == name for file in self.look(path).files)

    def put(self, name: str, content: bytes) -> None:
        """Write a blob."""
        self.ask(lambda container: container.upload_blob(name, content, overwrite=True))


def _stage(container: ContainerClient, name: str, block_id: str, block: bytes) -> Any:
    return container.get_blob_client(name).stage_block(block_id, block)


def content_of(files: Iterable[tuple[str, str]]) -> str:
    """What says which content some files have, given their paths and the digests of their bytes."""
    return sha256(repr(sorted(files)).encode()).hexdigest()[:32]

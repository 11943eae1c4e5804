"""Blobs as files: what exactly lies at a path, and its content, streamed and resumed.

The SDK's own downloads hold each file whole in memory, take a path for a prefix, and begin anew after a break.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt.api.config import ReportProgress
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import passing, patiently, pause

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError
    from azure.storage.blob import ContainerClient

CHUNK = 4 * 2**20
"""Bytes that are in memory of each file that is downloaded."""
AT_ONCE = 4
"""Files that are downloaded at the same time."""
_FOLDER = "hdi_isfolder"
"""Metadata of a blob that only says that there is a folder."""

Connect = Callable[[], "ContainerClient"]
"""Makes a client of a container: a new one each time, as a signed address is of use for an hour only."""


@dataclass(frozen=True)
class File:
    """A blob that is to become a file.

    :param path: its own, below what is fetched; a single file's name
    :param blob: its name in the container
    :param size: bytes
    :param etag: changes with its content
    :param md5: of its content, if the storage knows it
    """

    path: str
    blob: str
    size: int
    etag: str
    md5: bytes | None = None


@dataclass(frozen=True)
class Found:
    """What lies at a path.

    :param single: whether it is a file, and no folder
    """

    files: tuple[File, ...]
    single: bool

    @property
    def digest(self) -> str:
        """Of names, sizes and states of all files: the same as long as nothing is changed."""
        told = sorted((file.path, file.size, file.etag) for file in self.files)
        return sha256(repr((self.single, told)).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


def look(container: ContainerClient, path: str, client: AzureMLClientConfig) -> Found:
    """What lies at exactly this path: a file, or a folder with all that is in it; no files if there is nothing.

    :param path: with a slash at its end only a folder
    :raises PreconditionFailed: a name leads out of the folder
    :raises AzureError: the container can't be read
    """
    folder = f"{path.rstrip('/')}/"
    if path != folder and (here := patiently(client, lambda: _blob(container, path))) is not None:
        return Found((_file(here, PurePosixPath(path).name),), single=True)
    below = patiently(client, lambda: [*container.list_blobs(name_starts_with=folder, include=["metadata"])])
    files = (_file(each, each.name.removeprefix(folder)) for each in below if not _is_folder(each))
    return Found(tuple(files), single=False)


def _blob(container: ContainerClient, name: str) -> Any:
    """What the storage says of a blob; None if there is none, or one that stands for a folder."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found = container.get_blob_client(name).get_blob_properties()
    except ResourceNotFoundError:
        return None
    return None if _is_folder(found) else found


def _is_folder(blob: Any) -> bool:
    return blob.name.endswith("/") or (blob.metadata or {}).get(_FOLDER) == "true"


def _file(blob: Any, path: str) -> File:
    parts = path.split("/")
    if "" in parts or ".." in parts or "." in parts or "\\" in path or "\0" in path:
        raise PreconditionFailed(f"the storage has {blob.name!r}, whose name can't be a file's")
    md5 = blob.content_settings.content_md5
    return File(path, blob.name, blob.size, str(blob.etag).strip('"'), bytes(md5) if md5 else None)


class _Shared:
    """A client of a container for several threads, made anew when its signature is of use no more."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self.current = connect()

    def renew(self, refused: ContainerClient) -> None:
        """Connect anew, unless another thread has done so meanwhile."""
        with self._lock:
            if self.current is refused:
                self.current = self._connect()


def download(
    connect: Connect,
    files: Sequence[File],
    folder: Path,
    unfinished: Path,
    client: AzureMLClientConfig,
    progress: ReportProgress,
) -> None:
    """Bring files into a folder, several at once. What an earlier attempt has brought is not asked for again.

    :param unfinished: a folder on the same file system, where they are until all are whole
    :raises PreconditionFailed: one was changed meanwhile, or did not arrive as it is there
    :raises AzureError: one can't be had
    """
    total, lock = sum(file.size for file in files), threading.Lock()
    done = 0

    def count(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            progress("download", done, total)

    unfinished.mkdir(parents=True, exist_ok=True)
    progress("download", 0, total)
    shared = _Shared(connect)
    several("download", [partial(_bring, shared, file, unfinished / file.path, client, count) for file in files])
    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(unfinished / file.path, target)


def several(name: str, calls: Iterable[Callable[[], None]]) -> None:
    """Make calls in a few threads; after one has failed, no other begins.

    :param name: of the threads
    """
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix=name) as pool:
        waiting = [pool.submit(each) for each in calls]
        try:
            for each in waiting:
                each.result()
        finally:
            for each in waiting:
                each.cancel()


def _bring(
    shared: _Shared, file: File, target: Path, client: AzureMLClientConfig, count: Callable[[int], None]
) -> None:
    """One file, as often as it takes: each break goes on where it was."""
    from azure.core.exceptions import AzureError, HttpResponseError

    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    begun = target.stat().st_size if target.exists() else 0
    if begun > file.size:
        target.unlink()
        begun = 0
    count(begun)
    while begun < file.size or not target.exists():
        container = shared.current
        try:
            _go_on(container, file, target, begun, count)
            break
        except AzureError as error:
            if isinstance(error, HttpResponseError) and error.status_code in (404, 412):
                hint = "run again when nothing writes there"
                raise PreconditionFailed(f"{file.path} was changed while it was downloaded", hint=hint) from error
            now = target.stat().st_size if target.exists() else 0
            failures = 1 if now > begun else failures + 1
            begun = now
            if failures > client.max_operation_retries or not (passing(error) or run_out(error)):
                raise
            if run_out(error):
                shared.renew(container)
            time.sleep(pause(client.operation_retry_interval, failures))
    _check(file, target)


def run_out(error: AzureError) -> bool:
    """Whether it may be that the signature, which a new client has anew, was of use no more."""
    from azure.core.exceptions import HttpResponseError

    if not isinstance(error, HttpResponseError):
        return False
    code = getattr(error, "error_code", None)  # 403 says also that there is no permission
    return error.status_code == 401 or (error.status_code == 403 and code == "AuthenticationFailed")


def _go_on(container: ContainerClient, file: File, target: Path, begun: int, count: Callable[[int], None]) -> None:
    """Append what is missing of a file."""
    from azure.core import MatchConditions

    with target.open("ab") as opened:
        if file.size == begun:
            return
        stream = container.download_blob(
            file.blob,
            offset=begun,
            etag=f'"{file.etag}"',
            match_condition=MatchConditions.IfNotModified,
            max_concurrency=1,
        )
        for chunk in stream.chunks():
            opened.write(chunk)
            count(len(chunk))


def _check(file: File, target: Path) -> None:
    """That what arrived is what is there; a file that is not is removed, so that it is fetched anew."""
    wrong = target.stat().st_size != file.size
    if not wrong and file.md5 is not None:
        with target.open("rb") as opened:
            wrong = hashlib.file_digest(opened, _md5).digest() != file.md5
    if wrong:
        target.unlink()
        raise PreconditionFailed(f"{file.path} did not arrive as it is in the storage", hint="run again")


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)

"""What an artifact says of itself, and whether it is so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hfopt.api.metrics import Metric
from hfopt.base.errors import HfoptError
from hfopt.base.files import own_bytes
from hfopt.cache.digests import digest_file

MANIFEST = "manifest.json"


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ArtifactFile(_Written):
    """One file of an artifact."""

    path: str
    size: int
    sha256: str


class Uses(_Written):
    """What an artifact's model uses besides the artifact's own files.

    ``inputs`` are tokens of the user's inputs; ``beside`` are files beside an input that is a file, as external data
    of an ONNX model are: their paths begin with the input's token.
    """

    artifacts: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    beside: tuple[ArtifactFile, ...] = ()


class Manifest(_Written):
    """What an artifact says of itself. It holds no path of the machine that made it.

    ``name`` is that of the step that made it; others may have it from the cache under another.
    ``recipe`` is what its key was made of; ``digest`` covers the files' names and bytes: how two systems are compared.
    ``seal`` is the digest of all the rest, so that an edited manifest is not believed.
    """

    schema_version: Literal[3] = 3
    key: str
    name: str = ""
    kind: str
    component: str
    config: dict[str, Any]
    inputs: dict[str, str]
    recipe: dict[str, Any] = {}
    files: tuple[ArtifactFile, ...]
    digest: str
    uses: Uses = Uses()
    created: str
    seconds: float
    peak_rss_bytes: int | None
    metrics: dict[str, Metric] = {}
    report: dict[str, Any] = {}
    seal: str = ""

    def digest_of_itself(self) -> str:
        """What ``seal`` must be."""
        return sha256(self.model_dump_json(exclude={"seal"}).encode()).hexdigest()


def examine(folder: Path, key: str, digest: Callable[[Path], str] | None = None) -> tuple[Manifest | None, list[str]]:
    """What a folder says of itself as the artifact of a key, and what is wrong with it.

    :param digest: of a file's bytes; None: files are compared by size alone
    :return: None if it says nothing that can be believed; nothing is wrong with an artifact that is not there at all
    """
    manifest, wrong = read_manifest(folder, key)
    if manifest is None:
        return None, wrong
    there = dict(_entries(folder))
    del there[MANIFEST]
    for file in manifest.files:
        entry = there.pop(file.path, None)
        try:
            if entry is None or entry.is_symlink():
                wrong.append(f"{file.path} is missing")
            elif entry.stat().st_size != file.size or (digest is not None and digest(Path(entry)) != file.sha256):
                wrong.append(f"{file.path} has changed")
        except OSError:
            wrong.append(f"{file.path} can't be read")
    return manifest, [*wrong, *(f"{name} does not belong to it" for name in there)]


def _entries(folder: Path | str, above: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What lies below a folder, but for folders: a link to one is in it. By the path from there."""
    with suppress(PermissionError), os.scandir(folder) as found:
        for each in found:
            if each.is_dir(follow_symlinks=False):
                yield from _entries(each.path, f"{above}{each.name}/")
            else:
                yield above + each.name, each


def read_manifest(folder: Path, key: str) -> tuple[Manifest | None, list[str]]:
    """What a folder says of itself as the artifact of a key; or None and why that can't be believed."""
    try:
        manifest = Manifest.model_validate_json(own_bytes(folder / MANIFEST))
    except OSError:
        return None, ["its manifest is missing"] if os.path.lexists(folder) else []
    except ValidationError as error:
        other = any(each["loc"] == ("schema_version",) for each in error.errors())
        return None, ["its manifest is of another release of hfopt" if other else "its manifest is damaged"]
    if manifest.key != key:
        return None, [f"it is another artifact, {manifest.key[:12]}"]
    if manifest.seal != manifest.digest_of_itself():
        return None, ["its manifest has been edited"]
    return manifest, []


def make_read_only(folder: Path) -> None:
    """Make the files below a folder read-only, but for those that are hard links to somebody else's."""
    for _, each in _entries(folder):
        if each.is_file(follow_symlinks=False) and each.stat().st_nlink == 1:
            os.chmod(each, 0o444)


def list_files(folder: Path) -> tuple[ArtifactFile, ...]:
    """Every file below a folder, with its digest, in order of path.

    :raises HfoptError: there is a symbolic link: what it points to is another's, and may lie elsewhere later
    """
    found = sorted(_entries(folder), key=lambda pair: pair[0].split("/"))
    for link in (name for name, each in found if each.is_symlink()):
        raise HfoptError(f"{link} is a symbolic link, and must be a file of the artifact's own")
    return tuple(describe_file(name, Path(each)) for name, each in found if each.is_file())


def describe_file(path: str, file: Path) -> ArtifactFile:
    """One file, which is read."""
    return ArtifactFile(path=path, size=file.stat().st_size, sha256=digest_file(file))


def digest_of(files: tuple[ArtifactFile, ...]) -> str:
    """One digest for names and bytes of all files."""
    return sha256("\n".join(f"{file.path}\0{file.sha256}" for file in files).encode()).hexdigest()

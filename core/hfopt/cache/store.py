"""The artifact store: immutable folders named by key, each with a manifest.

Reads and writes files only; what a key is made of belongs to ``hfopt.cache.keys``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hfopt.api.model import ModelHandle
from hfopt.base.errors import HfoptError
from hfopt.cache.locks import held

MANIFEST = "manifest.json"
MODEL = "model.json"
_REFERENCE = "artifact:"


class ArtifactFile(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str


class OutsideFile(BaseModel):
    """A file outside the store that an artifact's model uses, as it was when the artifact was made."""

    model_config = ConfigDict(frozen=True)

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> OutsideFile:
        """The file as it is now."""
        state = path.stat()
        return cls(path=path, size=state.st_size, mtime_ns=state.st_mtime_ns)


class Uses(BaseModel):
    """What an artifact's model uses besides the artifact's own files."""

    model_config = ConfigDict(frozen=True)

    artifacts: tuple[str, ...] = ()
    outside: tuple[OutsideFile, ...] = ()


class Manifest(BaseModel):
    """What an artifact says of itself.

    ``name`` is that of the step that made it; others may have it from the cache under another.
    ``recipe`` is what its key was made of; ``digest`` covers the files' names and bytes: how two systems are compared.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    schema_version: int = 1
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
    metrics: dict[str, Any] = {}
    report: dict[str, Any] = {}


class ArtifactMissing(HfoptError):
    """An artifact that a step needs is not in the store, or not whole."""


class ArtifactStore:
    """Artifacts under ``root/artifacts``, half-made ones under ``root/making``."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def folder(self, key: str) -> Path:
        """Where the artifact of that key lies, or would."""
        return self._artifacts / key[:2] / key

    def lock(self, key: str) -> Path:
        """The file that whoever makes the artifact of that key locks."""
        return self.root / "locks" / key

    def find(self, key: str) -> Manifest | None:
        """The manifest, if the artifact is whole: no file that it consists of or uses is missing or changed."""
        folder = self.folder(key)
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            whole = all((folder / file.path).stat().st_size == file.size for file in manifest.files)
            whole = whole and all(OutsideFile.of(file.path) == file for file in manifest.uses.outside)
        except (OSError, ValidationError):
            return None
        return manifest if whole and all(self.find(other) for other in manifest.uses.artifacts) else None

    def need(self, key: str) -> Manifest:
        """The manifest of an artifact that must be there.

        :raises ArtifactMissing: it is not
        """
        manifest = self.find(key)
        if manifest is None:
            raise ArtifactMissing(
                f"artifact {key[:12]} is missing or damaged", hint="run the same command again: it is made anew"
            )
        return manifest

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """A temporary folder on the store's file system, gone afterwards unless committed.

        Made while holding the key's lock: without it, another run's start sweeps the folder away.
        """
        parent = self.root / "making"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f"{key}-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, folder: Path, manifest: Manifest) -> None:
        """Publish a finished folder under its key. If somebody else has done so meanwhile, theirs stays."""
        with open(folder / MANIFEST, "w", encoding="utf-8") as stream:
            stream.write(manifest.model_dump_json(indent=1))
            stream.flush()
            os.fsync(stream.fileno())
        target = self.folder(manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and self.find(manifest.key) is None:
            shutil.rmtree(target)
        with suppress(OSError):
            os.rename(folder, target)
        if self.find(manifest.key) is None:
            raise HfoptError(f"could not write artifact {manifest.key[:12]} to {target}")

    def sweep(self) -> None:
        """Remove what was left half made by makers that are gone: nobody holds the artifact's lock."""
        for folder in self.root.glob("making/*"):
            if not held(self.lock(folder.name.partition("-")[0])):
                shutil.rmtree(folder, ignore_errors=True)

    def read_model(self, key: str) -> ModelHandle:
        """The model of an artifact, its paths absolute."""
        self.need(key)
        folder = self.folder(key)
        return self.unpack(json.loads((folder / MODEL).read_text("utf-8")), folder)

    def write_model(self, folder: Path, handle: ModelHandle) -> Uses:
        """Write a model into a folder in the making.

        :return: what it uses besides that folder's files
        """
        packed = self.pack(handle, folder)
        (folder / MODEL).write_text(json.dumps(packed, indent=1, sort_keys=True) + "\n", "utf-8")
        others = [path for path in _files_of(handle) if not path.is_relative_to(folder)]
        inside = {self._owner(path) for path in others if path.is_relative_to(self._artifacts)}
        outside = dict.fromkeys(path for path in others if not path.is_relative_to(self._artifacts))
        return Uses(artifacts=tuple(sorted(inside)), outside=tuple(map(OutsideFile.of, outside)))

    def pack(self, handle: ModelHandle, folder: Path) -> dict[str, Any]:
        """A handle as JSON: paths in `folder` relative, in other artifacts ``artifact:KEY/...``, others absolute."""

        def place(path: Path) -> str:
            if path.is_relative_to(folder):
                return path.relative_to(folder).as_posix()
            if path.is_relative_to(self._artifacts):
                return _REFERENCE + "/".join(path.relative_to(self._artifacts).parts[1:])
            return str(path)

        packed = handle.model_dump(mode="json", exclude={"components", "path", "files", "companions"})
        packed["path"] = place(handle.path)
        packed["files"] = [place(path) for path in handle.files]
        packed["companions"] = [place(path) for path in handle.companions]
        packed["components"] = {name: self.pack(part, folder) for name, part in handle.components.items()}
        return packed

    @property
    def _artifacts(self) -> Path:
        return self.root / "artifacts"

    def _owner(self, path: Path) -> str:
        return path.relative_to(self._artifacts).parts[1]

    def unpack(self, packed: dict[str, Any], folder: Path) -> ModelHandle:
        """The handle that `pack` wrote."""

        def locate(place: str) -> Path:
            if place.startswith(_REFERENCE):
                key, _, rest = place.removeprefix(_REFERENCE).partition("/")
                return self.folder(key) / rest
            return folder / place

        located = {
            "path": locate(packed["path"]),
            "files": tuple(map(locate, packed["files"])),
            "companions": tuple(map(locate, packed["companions"])),
            "components": {name: self.unpack(part, folder) for name, part in packed["components"].items()},
        }
        return ModelHandle.model_validate(packed | located)


def _files_of(handle: ModelHandle) -> list[Path]:
    """Every file that a model consists of or travels with, those of its components included."""
    own = [*handle.files, *handle.companions]
    return own + [path for part in handle.components.values() for path in _files_of(part)]


def list_files(folder: Path) -> tuple[ArtifactFile, ...]:
    """Every file below a folder, with its digest, in order of path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        ArtifactFile(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest_file(path))
        for path in paths
    )


def digest_of(files: tuple[ArtifactFile, ...]) -> str:
    """One digest for names and bytes of all files."""
    return sha256("\n".join(f"{file.path}\0{file.sha256}" for file in files).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def now() -> str:
    """The time as records have it: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""The artifact store: immutable folders named by key, each with a manifest.

Reads and writes files only; what a key is made of belongs to ``hfopt.keys``.
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
from hfopt.errors import HfoptError

MANIFEST = "manifest.json"
MODEL = "model.json"
_REFERENCE = "artifact:"


class ArtifactFile(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What an artifact says of itself.

    ``digest`` covers the files' names and bytes: how two systems are compared. ``refers`` are the keys of other
    artifacts whose files this one's model uses.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    schema_version: int = 1
    key: str
    kind: str
    component: str
    config: dict[str, Any]
    inputs: dict[str, str]
    files: tuple[ArtifactFile, ...]
    digest: str
    refers: tuple[str, ...] = ()
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
        return self.root / "artifacts" / key[:2] / key

    def find(self, key: str) -> Manifest | None:
        """The manifest, if the artifact is there and whole: no file missing or of another size."""
        folder = self.folder(key)
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            whole = all((folder / file.path).stat().st_size == file.size for file in manifest.files)
        except (OSError, ValidationError):
            return None
        return manifest if whole and all(self.find(other) for other in manifest.refers) else None

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
        """A temporary folder on the store's file system, gone afterwards unless committed."""
        parent = self.root / "making"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f"{os.getpid()}-{key[:12]}-", dir=parent))
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
        """Remove what processes that have since died left half made."""
        for folder in self.root.glob("making/*"):
            pid = folder.name.partition("-")[0]
            if pid.isdigit() and not Path("/proc", pid).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def read_model(self, key: str) -> ModelHandle:
        """The model of an artifact, its paths absolute."""
        self.need(key)
        folder = self.folder(key)
        return self.unpack(json.loads((folder / MODEL).read_text("utf-8")), folder)

    def write_model(self, folder: Path, handle: ModelHandle) -> tuple[str, ...]:
        """Write a model into a folder in the making.

        :return: keys of the artifacts whose files it uses
        """
        refers: set[str] = set()
        packed = self.pack(handle, folder, refers)
        (folder / MODEL).write_text(json.dumps(packed, indent=1, sort_keys=True) + "\n", "utf-8")
        return tuple(sorted(refers))

    def pack(self, handle: ModelHandle, folder: Path, refers: set[str]) -> dict[str, Any]:
        """A handle as JSON: paths in `folder` relative, in other artifacts ``artifact:KEY/...``, others absolute."""

        def place(path: Path) -> str:
            path = path.absolute()
            if path.is_relative_to(folder):
                return path.relative_to(folder).as_posix()
            artifacts = self.root / "artifacts"
            if path.is_relative_to(artifacts):
                _, key, *rest = path.relative_to(artifacts).parts
                refers.add(key)
                return _REFERENCE + "/".join([key, *rest])
            return str(path)

        packed = handle.model_dump(mode="json", exclude={"components", "path", "files", "companions"})
        packed["path"] = place(handle.path)
        packed["files"] = [place(path) for path in handle.files]
        packed["companions"] = [place(path) for path in handle.companions]
        packed["components"] = {name: self.pack(part, folder, refers) for name, part in handle.components.items()}
        return packed

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

"""The artifact store: immutable folders named by key, each with a manifest.

Reads and writes files only; what a key is made of belongs to ``hfopt.cache.keys``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hfopt.api.metrics import Metric
from hfopt.api.model import ModelHandle
from hfopt.api.protocol import INPUT
from hfopt.base.errors import HfoptError
from hfopt.base.files import remove_folder, write_atomically
from hfopt.base.values import map_strings, strings_in
from hfopt.cache.digests import Digests, digest_file
from hfopt.cache.locks import exclusive, held

MANIFEST = "manifest.json"
MODEL = "model.json"
FORMAT = "2"
"""Of the cache. What another release has left in another format is set aside, and never misread."""
_HERE, _ARTIFACT, _TEXT = "here:", "artifact:", "text:"
"""What a place begins with; the last stands before a string that only looks like one, as a label ``here: a`` does."""


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
    """

    schema_version: Literal[2] = 2
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


class ArtifactMissing(HfoptError):
    """An artifact that a step needs is not in the store, or not whole."""

    def __init__(self, key: str) -> None:
        super().__init__(f"artifact {key[:12]} is missing or damaged", hint="run the same command again")


class ArtifactStore:
    """Artifacts under ``root/artifacts``, half-made ones under ``root/making``.

    :param inputs: where the user's inputs lie on this machine, by token: an artifact's model may refer to them
    """

    def __init__(self, root: Path, inputs: dict[str, str] | None = None) -> None:
        self.root = root.absolute()
        self._artifacts = self.root / "artifacts"
        self.inputs = {} if inputs is None else inputs

    def folder(self, key: str) -> Path:
        """Where the artifact of that key lies, or would."""
        return self._artifacts / key[:2] / key

    def lock(self, key: str) -> Path:
        """The file that whoever makes the artifact of that key locks."""
        return self.root / "locks" / key

    def find(self, key: str) -> Manifest | None:
        """The manifest, if the artifact is whole: no file that it consists of or uses is missing or truncated."""
        folder = self.folder(key)
        if (manifest := read_manifest(folder)) is None:
            return None
        uses = manifest.uses
        digests = Digests(self.root if uses.beside else None)
        with suppress(OSError):
            if (
                all((folder / file.path).stat().st_size == file.size for file in manifest.files)
                and self.inputs.keys() >= {*uses.inputs}
                and all(digests.of(Path(self._located(folder, file.path))) == file.sha256 for file in uses.beside)
                and all(map(self.find, uses.artifacts))
            ):
                return manifest
        return None

    def closure(self, keys: Iterable[str], find: Callable[[str], Manifest | None] | None = None) -> dict[str, Manifest]:
        """The manifests of artifacts and of all that they use of others, by key.

        :param find: instead of `find`
        :raises ArtifactMissing: one is not there, or not whole
        """
        waiting, found = list(keys), dict[str, Manifest]()
        while waiting:
            if (key := waiting.pop()) not in found:
                if (manifest := (find or self.find)(key)) is None:
                    raise ArtifactMissing(key)
                found[key] = manifest
                waiting += manifest.uses.artifacts
        return found

    def need(self, key: str) -> Manifest:
        """The manifest of an artifact that must be there.

        :raises ArtifactMissing: it is not
        """
        return self.closure([key])[key]

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
        """Publish a finished folder under its key. If somebody else has done so meanwhile, theirs stays.

        Its files become read-only, but for those that are hard links to somebody else's.
        """
        for file in manifest.files:
            if (folder / file.path).stat().st_nlink == 1:
                (folder / file.path).chmod(0o444)
        with open(folder / MANIFEST, "w", encoding="utf-8") as stream:
            stream.write(manifest.model_dump_json(indent=1))
            stream.flush()
            os.fsync(stream.fileno())
        target = self.folder(manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and self.find(manifest.key) is None:
            remove_folder(target)
        with suppress(OSError):
            os.rename(folder, target)
        if self.find(manifest.key) is None:
            raise HfoptError(f"could not write artifact {manifest.key[:12]} to {target}")

    def discard(self, key: str) -> None:
        """Remove an artifact that is not what it was: its step runs again when it is next needed."""
        with suppress(OSError):
            remove_folder(self.folder(key))

    def export(self, keys: Iterable[str], target: Path) -> list[str]:
        """Copy artifacts, and all that they use of others, into a folder that `adopt` takes anywhere else.

        The inputs that models refer to are not copied, and need not be known here.

        :return: the keys of all that was copied
        :raises ArtifactMissing: one is not there, or not as it was written
        """

        def intact(key: str) -> Manifest | None:
            return None if faults(self.folder(key), key) else read_manifest(self.folder(key))

        found = self.closure(keys, intact)
        for key in found:
            if (target / key).exists():
                remove_folder(target / key)
            shutil.copytree(self.folder(key), target / key)
        return list(found)

    def adopt(self, source: Path) -> list[str]:
        """Take in artifacts that another store has exported, each only if its bytes are what its manifest says.

        :return: their keys
        :raises HfoptError: a folder is no artifact, or not as it was written
        """
        self.set_aside_older()
        folders = sorted(place for place in source.iterdir() if place.is_dir())
        for folder in folders:
            key, target = folder.name, self.folder(folder.name)
            with exclusive(self.lock(key)), self.making(key) as making:
                shutil.copytree(folder, making, dirs_exist_ok=True)
                if found := faults(making, key):
                    raise HfoptError(f"{folder}: {'; '.join(found)}")
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists() and faults(target, key):
                    remove_folder(target)
                if not target.exists():
                    os.rename(making, target)
        return [folder.name for folder in folders]

    def sweep(self) -> None:
        """Remove what was left half made by makers that are gone: nobody holds the artifact's lock."""
        for folder in self.root.glob("making/*"):
            if not held(self.lock(folder.name.partition("-")[0])):
                shutil.rmtree(folder, ignore_errors=True)

    def set_aside_older(self) -> Path | None:
        """Put what a release with another format has left out of the way.

        :return: where it is now, if there was any
        """
        stamp, aside = self.root / "format", self.root / "artifacts-of-another-format"
        if stamp.exists() and stamp.read_text("utf-8").strip() == FORMAT:
            return None
        moved = self._artifacts.is_dir()
        if moved:
            if aside.exists():
                remove_folder(aside)
            os.rename(self._artifacts, aside)
        self.root.mkdir(parents=True, exist_ok=True)
        write_atomically(stamp, f"{FORMAT}\n")
        return aside if moved else None

    def read_model(self, key: str) -> ModelHandle:
        """The model of an artifact, its paths absolute."""
        self.need(key)
        folder = self.folder(key)
        return self.unpack(json.loads((folder / MODEL).read_text("utf-8")), folder)

    def write_model(self, folder: Path, handle: ModelHandle) -> Uses:
        """Write a model into a folder in the making.

        :return: what it uses besides that folder's files
        :raises HfoptError: a file of it lies neither there, nor in another artifact, nor in an input of the user's
        """
        packed = self.pack(handle, folder)
        (folder / MODEL).write_text(json.dumps(packed, indent=1, sort_keys=True) + "\n", "utf-8")
        places = sorted({place for place in strings_in(packed) if place.startswith((_ARTIFACT, INPUT))})
        roots = dict.fromkeys(place.partition("/")[0] for place in places)
        return Uses(
            artifacts=tuple(root.removeprefix(_ARTIFACT) for root in roots if root.startswith(_ARTIFACT)),
            inputs=tuple(root for root in roots if root.startswith(INPUT)),
            beside=tuple(_described(place, Path(self._located(folder, place))) for place in places if "/../" in place),
        )

    def pack(self, handle: ModelHandle, folder: Path) -> dict[str, Any]:
        """A handle as JSON that means the same on any machine: each path as a place, wherever it stands.

        ``here:FILE`` lies in `folder`, ``artifact:KEY/FILE`` in another artifact, ``input:DIGEST/FILE`` in an input.
        """
        packed: dict[str, Any] = map_strings(handle.model_dump(mode="json"), partial(self._place, folder))
        for path in handle.every_file:
            if self._place(folder, str(path)) == str(path):
                raise HfoptError(f"{path}: a model's files lie in its step's folder or among its inputs")
        return packed

    def _place(self, folder: Path, text: str) -> str:
        if not text.startswith("/"):
            return _TEXT + text if text.startswith((_HERE, _ARTIFACT, INPUT, _TEXT)) else text
        path = Path(os.path.normpath(text))
        if path.is_relative_to(folder):
            return _HERE + path.relative_to(folder).as_posix()
        if path.is_relative_to(self._artifacts):
            return _ARTIFACT + "/".join(path.relative_to(self._artifacts).parts[1:])
        given = {token: Path(os.path.normpath(place)) for token, place in self.inputs.items()}
        for token, place in given.items():
            if path.is_relative_to(place):
                return f"{token}/{path.relative_to(place).as_posix()}".removesuffix("/.")
        for token, place in given.items():
            if place.is_file() and path.is_relative_to(place.parent) and not path.is_relative_to(self.root):
                return f"{token}/../{path.relative_to(place.parent).as_posix()}"
        return text

    def unpack(self, packed: Mapping[str, Any], folder: Path) -> ModelHandle:
        """The handle that `pack` wrote."""
        return ModelHandle.model_validate(map_strings(packed, partial(self._located, folder)))

    def _located(self, folder: Path, text: str) -> str:
        if text.startswith(_TEXT):
            return text.removeprefix(_TEXT)
        if text.startswith(_HERE):
            return str(folder / text.removeprefix(_HERE))
        place, _, rest = text.partition("/")
        if place.startswith(_ARTIFACT):
            return str(self.folder(place.removeprefix(_ARTIFACT)) / rest)
        if place not in self.inputs:
            return text
        given = Path(self.inputs[place])
        return str(given.parent / rest.removeprefix("../") if rest.startswith("../") else given / rest)


def read_manifest(folder: Path) -> Manifest | None:
    """What a folder says of itself; None if it is no artifact of this format."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def faults(folder: Path, key: str) -> list[str]:
    """What is wrong with the artifact of that key in a folder: every file is read."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.key != key:
        return ["its manifest is missing or damaged"]
    found = []
    for file in manifest.files:
        try:
            if digest_file(folder / file.path) != file.sha256:
                found.append(f"{file.path} has changed")
        except OSError:
            found.append(f"{file.path} is missing")
    return found


def list_files(folder: Path) -> tuple[ArtifactFile, ...]:
    """Every file below a folder, with its digest, in order of path.

    :raises HfoptError: there is a symbolic link: what it points to is another's, and may lie elsewhere later
    """
    for link in filter(Path.is_symlink, folder.rglob("*")):
        raise HfoptError(f"{link.relative_to(folder)} is a symbolic link, and must be a file of the artifact's own")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(_described(file.relative_to(folder).as_posix(), file) for file in files)


def _described(path: str, file: Path) -> ArtifactFile:
    return ArtifactFile(path=path, size=file.stat().st_size, sha256=digest_file(file))


def digest_of(files: tuple[ArtifactFile, ...]) -> str:
    """One digest for names and bytes of all files."""
    return sha256("\n".join(f"{file.path}\0{file.sha256}" for file in files).encode()).hexdigest()

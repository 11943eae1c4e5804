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
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hfopt.api.model import ModelHandle
from hfopt.api.protocol import INPUT
from hfopt.base.errors import HfoptError, UsageError
from hfopt.base.files import own_bytes, remove_folder, write_atomically
from hfopt.base.inside import folders_inside, inside, remove_inside
from hfopt.base.values import map_strings, strings_in
from hfopt.cache.digests import Digests, digest_file
from hfopt.cache.locks import exclusive, held
from hfopt.cache.manifest import MANIFEST, Manifest, Uses, describe_file, examine

FOLDERS = ("artifacts", "making", "unfinished", "locks", "bundles")
"""Of a cache."""
MODEL = "model.json"
FORMAT = "3"
"""Of the cache. What another release has left in another format is set aside, and never misread."""
_HERE, _ARTIFACT, _TEXT = "here:", "artifact:", "text:"
"""What a place begins with; the last stands before a string that only looks like one, as a label ``here: a`` does."""


class ArtifactMissing(HfoptError):
    """An artifact that a step needs is not in the store, or not whole."""

    def __init__(self, key: str) -> None:
        super().__init__(f"artifact {key[:12]} is missing or damaged", hint="run the same command again")


class ArtifactStore:
    """Artifacts under ``root/artifacts``, half-made ones under ``root/making``.

    :param inputs: where the user's inputs lie on this machine, by token: an artifact's model may refer to them
    :param digests: what the bytes of files are compared by; None: they are compared by size alone
    :param made: a folder for finished artifacts, where ``root/artifacts`` can only be read; see `take_in`
    :param once: an artifact that was found whole is not looked at again: for one step, which is watched
    """

    def __init__(
        self,
        root: Path,
        inputs: dict[str, str] | None = None,
        digests: Digests | None = None,
        made: Path | None = None,
        *,
        once: bool = False,
    ) -> None:
        self.root = root.absolute()
        self._artifacts = self.root / "artifacts"
        self.inputs = {} if inputs is None else inputs
        self.digests = digests
        self.made = made
        self._found: dict[str, Manifest] | None = {} if once else None

    def folder(self, key: str) -> Path:
        """Where the artifact of that key lies, or would."""
        return self._artifacts / key[:2] / key

    def lock(self, key: str) -> Path:
        """The file that whoever makes the artifact of that key locks."""
        return self.root / "locks" / key

    def find(self, key: str) -> Manifest | None:
        """The manifest, if the artifact and all that it uses are what their manifests say."""
        if self.folder(key).is_dir():
            with suppress(ArtifactMissing):
                return self.need(key)
        return None

    def damage(self, key: str) -> str:
        """In what an artifact that is there is not what it should be; empty if it is, or is not there."""
        return "; ".join(examine(self.folder(key), key, None if self.digests is None else self.digests.of)[1])

    def _whole(self, key: str) -> Manifest | None:
        if self._found is None:
            return self._looked_at(key)
        if key not in self._found and (manifest := self._looked_at(key)) is not None:
            self._found[key] = manifest
        return self._found.get(key)

    def _looked_at(self, key: str) -> Manifest | None:
        folder, digests = self.folder(key), self.digests
        manifest, wrong = examine(folder, key, None if digests is None else digests.of)
        if manifest is None or wrong or not self.inputs.keys() >= {*manifest.uses.inputs}:
            return None
        beside = manifest.uses.beside
        digests = digests or Digests(self.root if beside else None)
        with suppress(OSError, HfoptError):
            if all(digests.of(Path(self._located(folder, file.path))) == file.sha256 for file in beside):
                return manifest
        return None

    def closure(self, keys: Iterable[str], find: Callable[[str], Manifest | None] | None = None) -> dict[str, Manifest]:
        """The manifests of artifacts and of all that they use of others, by key.

        :param find: the manifest of one, if it is whole; instead of this store's own
        :raises ArtifactMissing: one is not there, or not whole
        """
        waiting, found = list(keys), dict[str, Manifest]()
        while waiting:
            if (key := waiting.pop()) not in found:
                if (manifest := (find or self._whole)(key)) is None:
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

    def commit(self, folder: Path, manifest: Manifest) -> Manifest:
        """Publish a finished folder under its key. If somebody else has done so meanwhile, theirs stays.

        :return: the manifest, sealed
        :raises HfoptError: it can't be published
        """
        sealed = manifest.model_copy(update={"seal": manifest.digest_of_itself()})
        (folder / MANIFEST).write_text(sealed.model_dump_json(indent=1), "utf-8")
        if self.made is None:
            self._publish(folder, manifest.key)
        else:
            os.rename(folder, self.made / manifest.key)
        return sealed

    def take_in(self, made: Path) -> list[str]:
        """Move in the artifacts that a worker has finished in a folder of its own on the store's file system.

        :return: their keys
        :raises HfoptError: one can't be published
        """
        folders = sorted(made.iterdir())
        for folder in folders:
            self._publish(folder, folder.name)
        return [folder.name for folder in folders]

    def _publish(self, folder: Path, key: str) -> None:
        target = self.folder(key)
        if target.parent.is_symlink():
            target.parent.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target) and self.find(key) is None:
            remove_folder(target)
        try:
            os.rename(folder, target)
        except OSError as error:
            if self.find(key) is None:
                raise HfoptError(f"could not write artifact {key[:12]} to {target}") from error

    def discard(self, key: str) -> None:
        """Remove an artifact that is not what it was: its step runs again when it is next needed."""
        with suppress(OSError, HfoptError):
            remove_inside(self.root, self.folder(key))

    def export(self, keys: Iterable[str], target: Path) -> list[str]:
        """Copy artifacts, and all that they use of others, into a folder that `adopt` takes anywhere else.

        The inputs that models refer to are not copied, and need not be known here.

        :return: the keys of all that was copied
        :raises ArtifactMissing: one is not there, or not as it was written
        """

        def intact(key: str) -> Manifest | None:
            manifest, wrong = examine(self.folder(key), key, digest_file)
            return None if wrong else manifest

        found = self.closure(keys, intact)
        for key in found:
            if (target / key).exists():
                remove_folder(target / key)
            shutil.copytree(self.folder(key), target / key, symlinks=True)
        return list(found)

    def adopt(self, source: Path) -> list[str]:
        """Take in artifacts that another store has exported, each only if its bytes are what its manifest says.

        :return: their keys
        :raises HfoptError: a folder is no artifact, or not as it was written
        """
        self.set_aside_older()
        folders = sorted(place for place in source.iterdir() if place.is_dir() and not place.is_symlink())
        for folder in folders:
            key, target = folder.name, self.folder(folder.name)
            with exclusive(self.lock(key)), self.making(key) as making:
                shutil.copytree(folder, making, symlinks=True, dirs_exist_ok=True)
                if found := examine(making, key, digest_file)[1]:
                    raise HfoptError(f"{folder}: {'; '.join(found)}")
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists() and examine(target, key, digest_file)[1]:
                    remove_folder(target)
                if not target.exists():
                    os.rename(making, target)
        return [folder.name for folder in folders]

    def sweep(self) -> None:
        """Remove what was left half made by makers that are gone: nobody holds the artifact's lock.

        :raises UsageError: a folder of the cache is a symbolic link
        """
        for link in filter(Path.is_symlink, map(self.root.joinpath, FOLDERS)):
            hint = "remove the link; to have the cache elsewhere, name the place in cache_dir"
            raise UsageError(f"{link} is a symbolic link, which is not followed", hint=hint)
        for folder in folders_inside(self.root, "making"):
            if not held(self.lock(folder.name.partition("-")[0])):
                with suppress(OSError):
                    remove_inside(self.root, folder)

    def set_aside_older(self) -> Path | None:
        """Put what a release with another format has left out of the way.

        :return: where it is now, if there was any
        """
        stamp, aside = self.root / "format", self.root / "artifacts-of-another-format"
        with suppress(OSError):
            if own_bytes(stamp).strip() == FORMAT.encode():
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
        """The model of an artifact, its paths absolute.

        :raises ArtifactMissing: it is not there, or not whole
        :raises HfoptError: a file of the model lies neither in an artifact nor in an input of the user's
        """
        self.need(key)
        folder = self.folder(key)
        try:
            return self.unpack(json.loads((folder / MODEL).read_text("utf-8")), folder)
        except (OSError, ValueError) as error:
            raise ArtifactMissing(key) from error

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
            beside=tuple(
                describe_file(place, Path(self._located(folder, place))) for place in places if "/../" in place
            ),
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
        """The handle that `pack` wrote.

        :raises HfoptError: a file of it lies elsewhere than `pack` lets it
        """
        handle = ModelHandle.model_validate(map_strings(packed, partial(self._located, folder)))
        given = list(map(Path, self.inputs.values()))
        roots = (folder, self._artifacts, *(place if place.is_dir() else place.parent for place in given))
        for path in dict.fromkeys(handle.every_file):
            if path not in given:
                inside(path, *roots)
        return handle

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

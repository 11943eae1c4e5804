"""Looking after a cache: what is in it, whether it is sound, why a step ran again, and making room.

Nothing here runs steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hfopt.errors import HfoptError, UsageError
from hfopt.journal import Journal
from hfopt.store import MANIFEST, ArtifactStore, Manifest, digest_file
from hfopt.turns import NotNow, in_use


@dataclass(frozen=True)
class Entry:
    """An artifact in the cache.

    :param used: when a run last made it or had it from the cache
    """

    manifest: Manifest
    folder: Path
    used: str

    @property
    def size(self) -> int:
        return sum(file.size for file in self.manifest.files)


def entries(cache_dir: Path) -> list[Entry]:
    """Everything in a cache, most recently used first. What can't be read is left out: a run would make it anew."""
    used = Journal(cache_dir).last_used()
    found = [Entry(m, folder, max(used.get(m.key, ""), m.created)) for folder, m in _manifests(cache_dir)]
    return sorted(found, key=lambda entry: (entry.used, entry.manifest.key), reverse=True)


def _manifests(cache_dir: Path) -> Iterator[tuple[Path, Manifest]]:
    for folder in sorted(cache_dir.glob("artifacts/*/*")):
        try:
            yield folder, Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        except (OSError, ValidationError):
            continue


def find(cache_dir: Path, prefix: str) -> Entry:
    """The artifact whose key begins so.

    :raises UsageError: there is none, or there are several
    """
    matching = [entry for entry in entries(cache_dir) if entry.manifest.key.startswith(prefix)]
    if len(matching) != 1:
        what = "no artifact" if not matching else f"{len(matching)} artifacts"
        raise UsageError(
            f"{what} in {cache_dir} with a key that begins with {prefix!r}", hint="hfopt cache ls shows all"
        )
    return matching[0]


def differences(entry: Entry, others: list[Entry]) -> tuple[Entry, dict[str, tuple[Any, Any]]] | None:
    """How an artifact's recipe differs from that of the one most like it: why the step ran again.

    :return: the other, and by path into the recipe this one's value and the other's; None if there is no other
    """
    own = flatten(entry.manifest.recipe)
    same_kind = [each for each in others if each.manifest.component == entry.manifest.component and each != entry]
    compared = [(each, _changes(own, flatten(each.manifest.recipe))) for each in same_kind]
    return min(compared, key=lambda pair: len(pair[1]), default=None)


def _changes(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    paths = sorted(own.keys() | other.keys())
    return {path: (own.get(path), other.get(path)) for path in paths if own.get(path) != other.get(path)}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested JSON as one level: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    if isinstance(value, dict) and value:
        return {name: each for key, inner in value.items() for name, each in flatten(inner, f"{path}.{key}").items()}
    return {path.removeprefix("."): value}


def damaged(cache_dir: Path) -> Iterator[tuple[Path, str]]:
    """Artifacts whose bytes are not those that were written, each with what is wrong."""
    for folder in sorted(cache_dir.glob("artifacts/*/*")):
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        except (OSError, ValidationError):
            yield folder, "its manifest can't be read"
            continue
        for file in manifest.files:
            try:
                if digest_file(folder / file.path) != file.sha256:
                    yield folder, f"{file.path} has changed"
            except OSError:
                yield folder, f"{file.path} is missing"


def prune(cache_dir: Path, max_size: int) -> tuple[int, int]:
    """Remove what was used longest ago, until the rest is at most `max_size` bytes.

    :return: how many artifacts were removed, and their bytes
    :raises HfoptError: a run is using the cache
    """
    try:
        with in_use(cache_dir, alone=True):
            kept, removed = 0, list[Entry]()
            for entry in entries(cache_dir):
                if kept + entry.size > max_size or removed:
                    removed.append(entry)
                    shutil.rmtree(entry.folder)
                else:
                    kept += entry.size
    except NotNow as error:
        raise HfoptError(f"a run is using {cache_dir}", hint="wait for it to end") from error
    return len(removed), sum(entry.size for entry in removed)


def store_of(cache_dir: Path) -> ArtifactStore:
    """The store in a folder that must be a cache.

    :raises UsageError: it is not
    """
    if not (cache_dir / "artifacts").is_dir():
        raise UsageError(f"{cache_dir}: no cache here", hint="name the folder of engine.cache_dir with --cache-dir")
    return ArtifactStore(cache_dir)

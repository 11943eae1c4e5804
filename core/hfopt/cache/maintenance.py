"""Looking after a cache: what is in it, whether it is intact, and making room. Nothing here runs steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from hfopt.base.component import PROJECT
from hfopt.base.errors import UsageError
from hfopt.cache.digests import digest_file
from hfopt.cache.journal import Journal, Use
from hfopt.cache.locks import exclusive_cache
from hfopt.cache.reasons import Made, changes, reasons
from hfopt.cache.store import MANIFEST, Manifest


@dataclass(frozen=True)
class Entry:
    """An artifact in the cache.

    :param use: when it was last used; None if the journal does not know
    """

    manifest: Manifest
    folder: Path
    use: Use | None

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def size(self) -> int:
        return sum(file.size for file in self.manifest.files)

    @property
    def used(self) -> str:
        """When a run last made it or found it in the cache."""
        return self.manifest.created if self.use is None else max(self.use.at, self.manifest.created)

    @property
    def name(self) -> str:
        """The name of the step that it was last used for."""
        return (self.manifest.name if self.use is None else self.use.step) or self.manifest.component


def entries(journal: Journal) -> list[Entry]:
    """Everything in a cache, most recently used first. Unreadable ones are left out: a run would make them again."""
    uses = journal.last_uses()
    found = [
        Entry(manifest, folder, uses.get(manifest.key))
        for folder, manifest in _artifacts(journal.cache)
        if manifest is not None
    ]
    return sorted(found, key=lambda entry: (entry.used, entry.key), reverse=True)


def _artifacts(cache_dir: Path) -> Iterator[tuple[Path, Manifest | None]]:
    """Every artifact's folder with its manifest, None if that can't be read."""
    for folder in sorted(cache_dir.glob("artifacts/*/*")):
        try:
            yield folder, Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        except (OSError, ValidationError):
            yield folder, None


def find(among: list[Entry], wanted: str) -> Entry:
    """The latest artifact of the step of that name, or the one whose key begins so.

    :raises UsageError: there is none, or there are several
    """
    named = [entry for entry in among if entry.name == wanted]
    matching = named[:1] or [entry for entry in among if entry.key.startswith(wanted)]
    if len(matching) != 1:
        what = "no artifact" if not matching else f"{len(matching)} artifacts"
        raise UsageError(
            f"{what} with a key that begins with {wanted!r}, and no step of that name", hint="hfopt cache ls shows all"
        )
    return matching[0]


@dataclass(frozen=True)
class Comparison:
    """Why an artifact was made although there was an earlier one.

    :param key: the earlier one's key
    :param run: the run that had it for the same step; None if it is only the most similar
    :param reasons: what has changed since, as sentences
    """

    key: str
    run: int | None
    reasons: list[str]


def compare(journal: Journal, entry: Entry, there: list[Entry]) -> Comparison | None:
    """Compare an artifact with what the previous run had for its step, or else with the most similar earlier one.

    :param there: everything in the cache
    :return: None if there is no earlier one
    """
    by_key = {each.key: each for each in there}
    run, key = journal.predecessor(entry.key) or (None, "")
    if key not in by_key:
        earlier = [
            each for each in there if _comparable(each, entry) and each.manifest.created < entry.manifest.created
        ]
        if not earlier:
            return None
        run = None
        key = min(earlier, key=lambda each: len(changes(entry.manifest.recipe, each.manifest.recipe))).key
    made = {each.key: Made(each.manifest, each.name) for each in there}
    return Comparison(key, run, reasons(made[entry.key], made[key], made.get))


def _comparable(other: Entry, entry: Entry) -> bool:
    """Whether two artifacts could be of one step. The core's own steps are so only if they have the same name."""
    own = entry.manifest.component.startswith(f"{PROJECT}:")
    return other.manifest.component == entry.manifest.component and (not own or other.name == entry.name)


def damaged(cache_dir: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every artifact, with what has changed in it since it was written."""
    for folder, manifest in _artifacts(cache_dir):
        yield folder, ["its manifest can't be read"] if manifest is None else list(_faults(folder, manifest))


def _faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    for file in manifest.files:
        try:
            if digest_file(folder / file.path) != file.sha256:
                yield f"{file.path} has changed"
        except OSError:
            yield f"{file.path} is missing"


def remove(cache_dir: Path, folders: list[Path]) -> None:
    """Remove artifacts.

    :raises HfoptError: a run is using the cache
    """
    with exclusive_cache(cache_dir):
        for folder in folders:
            shutil.rmtree(folder)


def prune(journal: Journal, max_size: int) -> tuple[list[Entry], list[Entry]]:
    """Remove what was used longest ago, until the rest is at most `max_size` bytes.

    An artifact is kept only together with those that it refers to. Half-made artifacts and unused locks go too.

    :return: what was removed, and what was kept
    :raises HfoptError: a run is using the cache
    """
    with exclusive_cache(journal.cache):
        there = entries(journal)
        kept = keep({entry.key: entry for entry in there}, max_size)
        unwanted = [folder for folder in journal.cache.glob("artifacts/*/*") if folder.name not in kept]
        for folder in [*unwanted, *journal.cache.glob("making/*")]:
            shutil.rmtree(folder)
        for folder in journal.cache.glob("artifacts/*"):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        for lock in journal.cache.glob("locks/*"):
            if lock.name != "in-use":
                lock.unlink(missing_ok=True)
    return [entry for entry in there if entry.key not in kept], list(kept.values())


def keep(there: dict[str, Entry], max_size: int) -> dict[str, Entry]:
    """The most recently used that fit, each with all artifacts that it refers to.

    :param there: by key, most recently used first
    """
    kept: dict[str, Entry] = {}
    for key in there:
        wanted = _with_parts(key, there)
        if wanted is None:
            continue
        more = kept | wanted
        if sum(entry.size for entry in more.values()) > max_size:
            break
        kept = more
    return kept


def _with_parts(key: str, there: dict[str, Entry]) -> dict[str, Entry] | None:
    """An artifact and all that it refers to; None if one of them is missing."""
    if key not in there:
        return None
    found = {key: there[key]}
    for other in there[key].manifest.uses.artifacts:
        parts = _with_parts(other, there)
        if parts is None:
            return None
        found |= parts
    return found

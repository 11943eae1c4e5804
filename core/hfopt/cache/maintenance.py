"""Looking after a cache: what is in it, whether it is intact, and making room. Nothing here runs steps."""

from __future__ import annotations

from collections.abc import KeysView
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hfopt.base.errors import UsageError
from hfopt.base.inside import folders_inside, remove_inside
from hfopt.cache.journal import Journal, Use
from hfopt.cache.locks import exclusive_cache
from hfopt.cache.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class Entry:
    """An artifact in the cache."""

    manifest: Manifest
    folder: Path
    use: Use

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def size(self) -> int:
        return sum(file.size for file in self.manifest.files)

    @property
    def used(self) -> str:
        """When a run last made it or found it in the cache."""
        return max(self.use.at, self.manifest.created)

    @property
    def name(self) -> str:
        """The name of the step that it was last used for."""
        return self.use.step or self.manifest.component


def entries(journal: Journal) -> list[Entry]:
    """Everything in a cache, most recently used first. Unreadable ones are left out: a run would make them again."""
    uses = journal.last_uses()
    found = [
        Entry(manifest, folder, uses.get(manifest.key) or Use(manifest.created, None, manifest.name))
        for folder in folders_inside(journal.cache, "artifacts", depth=2)
        if (manifest := read_manifest(folder, folder.name)[0]) is not None
    ]
    return sorted(found, key=lambda entry: (entry.used, entry.key), reverse=True)


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


def remove(cache_dir: Path, folders: list[Path]) -> None:
    """Remove artifacts.

    :raises HfoptError: a run is using the cache
    """
    with exclusive_cache(cache_dir):
        for folder in folders:
            remove_inside(cache_dir, folder)


def prune(journal: Journal, max_size: int) -> tuple[list[Entry], list[Entry]]:
    """Remove what was used longest ago, until the rest is at most `max_size` bytes; 0 removes all.

    An artifact is kept only together with those that it refers to. Half-made ones, downloads that were
    not finished, bundles and unused locks go too.

    :return: what was removed, and what was kept
    :raises HfoptError: a run is using the cache
    """
    with exclusive_cache(journal.cache):
        there = entries(journal)
        kept = keep({entry.key: entry for entry in there}, max_size) if max_size else {}
        cache = journal.cache
        artifacts = [each for each in folders_inside(cache, "artifacts", depth=2) if each.name not in kept]
        locks = [each for each in cache.glob("locks/*") if each.name != "in-use"]
        made_again = chain(*(folders_inside(cache, each) for each in ("making", "unfinished", "bundles")))
        for unwanted in (*artifacts, *made_again, *locks):
            remove_inside(cache, unwanted)
        for folder in folders_inside(cache, "artifacts"):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
    return [entry for entry in there if entry.key not in kept], list(kept.values())


def keep(there: dict[str, Entry], max_size: int) -> dict[str, Entry]:
    """The most recently used that fit, each with all artifacts that it refers to.

    :param there: by key, most recently used first
    """
    kept: dict[str, Entry] = {}
    for key in there:
        parts = _with_parts(key, there)
        if there.keys() >= parts:
            more = kept | {part: there[part] for part in parts}
            if sum(entry.size for entry in more.values()) > max_size:
                break
            kept = more
    return kept


def _with_parts(key: str, there: dict[str, Entry]) -> KeysView[str]:
    """The keys of an artifact and of all that it refers to, in that order."""
    waiting, found = [key], dict[str, None]()
    while waiting:
        if (each := waiting.pop()) not in found:
            found[each] = None
            waiting += there[each].manifest.uses.artifacts if each in there else ()
    return found.keys()

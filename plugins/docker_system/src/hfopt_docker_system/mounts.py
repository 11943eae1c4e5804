"""What a container sees of this machine: each file under its own path, so that requests cross unchanged."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_OF_IMAGES = frozenset({"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr"})
"""Top folders in which an image has its own files: no folder of this machine may hide them."""


def places(inputs: Iterable[str]) -> set[Path]:
    """What to mount, so that inputs can be read in the container.

    For a file it is its folder, as other files may belong to it (external data of an ONNX model). Links in a folder may
    lead out of it, as those of a revision in the hub's cache do.
    """
    found: set[Path] = set()
    for path in map(Path, inputs):
        if path.is_dir():
            found |= {path, *_behind_links(path)}
        elif _is_too_much(path.parent):
            found |= {path, *(each for each in path.parent.glob(f"{glob.escape(path.stem)}*") if each.is_file())}
        else:
            found.add(path.parent)
    return found


def mounts(read: Iterable[Path], written: Mapping[Path, Path]) -> dict[Path, tuple[Path, bool]]:
    """The folder of this machine and whether it can be written, by the container's, outer folders first.

    :param read: seen under their own paths; what lies in another of them needs no mount of its own
    :param written: folders of this machine by the path that they have in the container
    """
    readable = set(map(Path, map(os.path.normpath, read)))
    outermost = {path for path in readable if readable.isdisjoint(path.parents)}
    both = {path: (path, False) for path in outermost} | {path: (source, True) for path, source in written.items()}
    return dict(sorted(both.items(), key=lambda item: len(item[0].parts)))


def covered(path: Path, mounted: Iterable[Path]) -> bool:
    """Whether a path can be seen where these are mounted."""
    return not {*mounted}.isdisjoint((path, *path.parents))


def _behind_links(folder: Path) -> set[Path]:
    links = (Path(parent, name) for parent, *names in os.walk(folder) for name in (*names[0], *names[1]))
    targets = {link.resolve() for link in links if link.is_symlink()}
    return {
        target if target.is_dir() else target.parent
        for target in targets
        if target.exists() and not covered(target, (folder, folder.resolve()))
    }


def _is_too_much(folder: Path) -> bool:
    """Whether a folder holds what is nobody's business (a home) or hides what the image has there."""
    top = folder.parts[1:2]
    return len(folder.parts) <= 2 or not _OF_IMAGES.isdisjoint(top) or Path.home().is_relative_to(folder)

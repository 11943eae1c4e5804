"""What lies inside of a folder: the one place that decides what may be read, handed on or deleted through a path."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hfopt.base.errors import HfoptError, PreconditionFailed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_SNAPSHOTS = "snapshots"
"""The hub's cache has a repository's revisions as folders in this one, full of links to files beside it."""


def regular_file(path: Path) -> os.stat_result:
    """See that a path leads to a regular file, before anything opens it: a named pipe would be waited for without end.

    :raises PreconditionFailed: it leads to something else
    :raises OSError: to nothing
    """
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "no file")
        raise PreconditionFailed(f"{path} is {kind}, not a regular file")
    return state


def file_inside(path: Path, folder: Path) -> Path:
    """Where a file of a folder really lies.

    :return: without links
    :raises PreconditionFailed: a link, or ``..``, leads out of the folder; links of a revision in the hub's cache may
        lead to that repository's other files there. Or it is no regular file
    :raises OSError: it leads to nothing
    """
    real, root = path.resolve(strict=True), folder.resolve(strict=True)
    regular_file(real)
    if root.parent.name == _SNAPSHOTS and (root.parents[1] / "blobs").is_dir():
        root = root.parents[1]
    if not real.is_relative_to(root):
        raise PreconditionFailed(
            f"{path} is a link out of {folder}, to {real}", hint="put a copy of the file in its place"
        )
    return real


def remove_inside(root: Path, path: Path) -> None:
    """Remove a folder or file below `root`. No symbolic link is followed: neither on the way nor in what it holds.

    :param path: below `root`
    :raises OSError: it is not there, or can't be removed
    :raises HfoptError: a part of the way there is a symbolic link
    """
    *way, name = path.relative_to(root).parts
    with _opened(root, way) as folder:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def folders_inside(root: Path, *way: str, depth: int = 1) -> Iterator[Path]:
    """The folders that many levels below a folder of `root`, none of them reached through a symbolic link."""
    with suppress(FileNotFoundError, NotADirectoryError, HfoptError), _opened(root, way) as folder:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
        for name in names:
            if depth == 1:
                yield root.joinpath(*way, name)
            else:
                yield from folders_inside(root, *way, name, depth=depth - 1)


@contextmanager
def _opened(root: Path, way: list[str] | tuple[str, ...]) -> Iterator[int]:
    """A descriptor of a folder below `root`, each step of the way there taken without following a link."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, name in enumerate(way, 1):
            try:
                below = os.open(name, _DIRECTORY, dir_fd=folder)
            except OSError as error:
                place = root.joinpath(*way[:number])
                if place.is_symlink():
                    raise HfoptError(f"{place} is a symbolic link: what it leads to is left alone") from error
                raise
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)

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


def inside(path: Path, *folders: Path) -> Path:
    """Where a file or folder really lies.

    :return: without links
    :raises PreconditionFailed: a link, or ``..``, leads out of all these folders, or nowhere; links of a revision in
        the hub's cache may lead to the same repository's files there
    """
    try:
        real, roots = path.resolve(strict=True), [_root(folder.resolve()) for folder in folders]
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL
        raise PreconditionFailed(f"{path}: no such file") from error
    if not any(real.is_relative_to(root) for root in roots):
        raise PreconditionFailed(
            f"{path} is at {real}, which lies outside of {folders[0]}", hint="put a copy of the file into that folder"
        )
    return real


def file_inside(path: Path, *folders: Path) -> Path:
    """As `inside`, for what must be a regular file."""
    real = inside(path, *folders)
    regular_file(real)
    return real


def _root(folder: Path) -> Path:
    """What a folder may link into: itself, or a whole repository in the hub's cache, of which it shows a revision."""
    for above in (folder, *folder.parents):
        if above.parent.name == _SNAPSHOTS and (repository := above.parents[1]).joinpath("blobs").is_dir():
            return repository
    return folder


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

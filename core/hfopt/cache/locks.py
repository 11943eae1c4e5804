"""Locks: no two runs make the same artifact at once, and nothing else runs while models are timed.

They are locks on files, which the kernel releases when their process ends, however it ends. A file system without locks
is not an error: two runs on it may do the same work twice, and the caller is told.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path

from hfopt.base.errors import HfoptError
from hfopt.base.files import lock_folder
from hfopt.base.text import near

_OPENING = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A link is nobody's lock, and a named pipe is not waited for."""
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
"""How flock fails where there are no locks. EBADF: on NFS an exclusive lock needs a file open for writing."""


@contextmanager
def machine_lock(*, alone: bool, waiting: Callable[[str], None]) -> Iterator[None]:
    """Use the machine together with other ordinary steps, or alone.

    A step that must be alone closes a gate first, so that a stream of ordinary steps can't keep it waiting.

    :param alone: nothing else runs meanwhile
    :param waiting: called once if the lock is not free, with who holds it, as far as that can be told
    """
    place = lock_folder()
    once = cache(lambda: waiting(_holder(place / "machine")))
    with _opened(place / "gate", for_all=True) as gate, _opened(place / "machine", for_all=True) as machine:
        _take(gate, fcntl.LOCK_EX, once)
        _take(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, once)
        _flock(gate, fcntl.LOCK_UN)
        with suppress(OSError):
            os.utime(machine)  # since when, for `_holder`
        yield


def _holder(file: Path) -> str:
    """Who holds a lock, since when, and what ends it: ``hfopt run c.json in /here, since 13:02:07; kill 77 ends it``.

    Linux says which process it is; empty elsewhere, and of processes that can't be seen from here.
    """
    import psutil

    with suppress(OSError, ValueError, LookupError, StopIteration, psutil.Error):
        inode, since = file.stat().st_ino, datetime.fromtimestamp(file.stat().st_mtime).strftime("%H:%M:%S")
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        likely = [int(each[4]) for each in locks if each[1] == "FLOCK" and each[5].endswith(f":{inode}")]
        processes = map(psutil.Process, likely)  # another file system may have a file of that number
        worker = next(each for each in processes if str(file.resolve()) in {its.path for its in each.open_files()})
        run = next(each for each in (worker, *worker.parents()) if "worker" not in each.cmdline())
        command = re.sub("^.*?hfopt ", "hfopt ", " ".join(run.cmdline()))
        return f"{command} in {run.cwd()}, since {since}; kill {run.pid} ends it"
    return ""


@contextmanager
def exclusive(place: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold the lock of a file or folder that only one may hold.

    :param waiting: called once if the lock is not free
    :return: whether it is held: False on a file system without locks
    """
    with _opened(place) as descriptor:
        yield _take(descriptor, fcntl.LOCK_EX, waiting)


@contextmanager
def using_cache(cache_dir: Path) -> Iterator[bool]:
    """Use a cache together with other runs.

    :return: whether others can tell: False on a file system without locks
    """
    with _opened(cache_dir / "locks" / "in-use") as descriptor:
        yield _flock(descriptor, fcntl.LOCK_SH)


@contextmanager
def exclusive_cache(cache_dir: Path) -> Iterator[None]:
    """Keep runs out of a cache while something is removed from it.

    :raises HfoptError: a run is using it, or its file system has no locks
    """
    with _opened(cache_dir / "locks" / "in-use") as descriptor:
        try:
            locked = _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            problem = None if locked else "its file system has no locks: a run may be using it"
        except BlockingIOError:
            problem = "a run is using it"
        if problem is not None:
            raise HfoptError(f"{near(cache_dir)}: {problem}", hint="hfopt runs shows what is running")
        yield


def held(file: Path) -> bool:
    """Whether a file's lock is held; also True on a file system without locks, where nobody can tell."""
    with _opened(file) as descriptor:
        try:
            return not _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True


@contextmanager
def _opened(file: Path, *, for_all: bool = False) -> Iterator[int]:
    try:
        descriptor = _open(file, for_all=for_all)
    except OSError as error:
        hint = f"make {file.parent} writable for all (chmod 1777), or remove it" if for_all else None
        raise HfoptError(f"{file}: can't be opened to lock it: {error.strerror}", hint=hint) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(file: Path, *, for_all: bool) -> int:
    """A descriptor to lock.

    It is open for writing if possible, which NFS needs, or else for reading, so that one user's file serves all. An
    existing file is not opened with O_CREAT: in a sticky folder the kernel refuses that for another user's file
    (fs.protected_regular).

    :param for_all: a new file is for every user, whatever the umask
    """
    while True:
        try:
            return os.open(file, os.O_RDWR | _OPENING)
        except (PermissionError, IsADirectoryError):
            return os.open(file, os.O_RDONLY | _OPENING)
        except FileNotFoundError:
            if not file.parent.is_dir():
                file.parent.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    file.parent.mkdir()
                    if for_all:
                        file.parent.chmod(0o1777)  # as /tmp itself: anybody may add a file, nobody remove another's
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            if for_all:
                os.fchmod(descriptor, 0o666)  # an empty file, whose lock is all that counts
            return descriptor


def _take(descriptor: int, kind: int, waiting: Callable[[], None]) -> bool:
    """Take a lock, and wait until it is free.

    :return: whether the file system has locks
    """
    try:
        return _flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        return _flock(descriptor, kind)


def _flock(descriptor: int, kind: int) -> bool:
    """Take a lock, or release it.

    :return: whether the file system has locks
    :raises BlockingIOError: somebody holds it, and `kind` says not to wait
    """
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True

"""Taking turns: no two runs make the same artifact at once, and nothing else runs while models are timed.

All by locks on files, which end with their process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def lock_folder() -> Path:
    """Where the machine's locks lie: one folder for all users and runs."""
    return Path(tempfile.gettempdir()) / "hfopt-locks"


@contextmanager
def turn(*, alone: bool, waiting: Callable[[], None], folder: Path | None = None) -> Iterator[None]:
    """Hold the machine together with other ordinary steps, or alone.

    Whoever wants to be alone closes a gate first, so that a stream of ordinary steps can't keep it waiting.

    :param alone: nothing else runs meanwhile
    :param waiting: called once if there is somebody to wait for
    :param folder: where the locks lie; None: the machine's
    """
    place = folder or lock_folder()
    with _opened(place / "gate") as gate, _opened(place / "machine") as machine:
        waited = _take(gate, fcntl.LOCK_EX, waiting)
        _take(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, (lambda: None) if waited else waiting)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@contextmanager
def sole_maker(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only one who holds this file's lock.

    :param waiting: called once if there is somebody to wait for
    """
    with _opened(file) as descriptor:
        _take(descriptor, fcntl.LOCK_EX, waiting)
        yield


class NotNow(Exception):
    """Somebody holds what can't be shared."""


@contextmanager
def in_use(cache_dir: Path, *, alone: bool = False) -> Iterator[None]:
    """Use a cache together with other runs, or keep runs out to remove something.

    :raises NotNow: alone, and a run is using it
    """
    with _opened(cache_dir / "locks" / "in-use") as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError as error:
            raise NotNow from error
        yield


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    """A descriptor to lock. Reading is enough, so that one user's file serves all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int, waiting: Callable[[], None]) -> bool:
    """Take a lock.

    :return: whether there was somebody to wait for
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, kind)
        return True
    return False

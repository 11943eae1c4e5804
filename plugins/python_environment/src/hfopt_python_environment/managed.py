"""Managed environments: made once for what they hold, and kept below the cache folder."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hfopt import PluginError
from hfopt.api.config import ReportProgress
from hfopt.api.files import write_atomically
from hfopt_python_environment.installers import INSTALLERS, LOCK
from hfopt_python_environment.orders import Order
from hfopt_python_environment.requirements import installed_here

FOLDER = "environments"
MARKER = "hfopt-environment.json"
"""Written last: an environment without it is half made."""


def ready(order: Order, cache: Path, progress: ReportProgress, check: Callable[[Path], None], *, offline: bool) -> Path:
    """The folder of an environment that holds what is ordered; it is made unless it is there.

    :param check: raises if hfopt can't run there
    :raises PluginError: it can't be made, or must not be
    """
    folder = cache / FOLDER / order.key
    if _is_made(folder):
        return folder
    if offline:
        raise PluginError(
            f"the environment {folder} is not made yet, and offline nothing is installed",
            hint=f"run once without --offline and HF_HUB_OFFLINE: hfopt run CONFIG; it installs {_told(order)}",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _in_turn(folder.with_suffix(".lock"), progress):
        if not _is_made(folder):
            _make(order, folder, progress, check)
    return folder


def _is_made(folder: Path) -> bool:
    return (folder / MARKER).is_file() and (folder / "bin" / "python").exists()  # not if its Python is gone


def _make(order: Order, folder: Path, progress: ReportProgress, check: Callable[[Path], None]) -> None:
    def phase(what: str) -> None:
        progress(f"{what} with {order.installer} in {folder}", 0, None)

    if folder.exists():
        shutil.rmtree(folder)
    phase(f"makes an environment of {_told(order)}")
    try:
        INSTALLERS[order.installer](order, folder, installed_here(), phase)
        check(folder)
        made = {"python": str(order.base.path), **order.base.identity, "installer": order.installer}
        write_atomically(folder / MARKER, json.dumps({**made, "requirements": order.lines}, indent=1) + "\n")
    except BaseException:  # an interrupt too: nothing half made stays
        shutil.rmtree(folder, ignore_errors=True)
        raise
    progress(f"made; every version is in {folder / LOCK}", 1, 1)


def _told(order: Order) -> str:
    if order.lock is not None:
        return f"what {order.lock} names"
    return ", ".join([*order.lines, *([] if order.file is None else [f"what {order.file} names"])])


@contextmanager
def _in_turn(file: Path, progress: ReportProgress) -> Iterator[None]:
    """Hold the lock of an environment. The kernel releases it when this process ends, however it does."""
    with file.open("a") as opened:
        lock = partial(fcntl.flock, opened)
        try:
            lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another run that makes the same environment", 0, None)
            lock(fcntl.LOCK_EX)
        yield

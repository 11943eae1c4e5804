"""Digests of content: of files, and of folders."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path

from hfopt.base.files import read_own, write_atomically
from hfopt.base.inside import regular_file


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


class Digests:
    """Content digests of local files, remembered by device, inode, size and times of change.

    :param cache_dir: where they are remembered, in ``digests.json``; None: nowhere, every file is read
    """

    def __init__(self, cache_dir: Path | None = None) -> None:
        self.file = None if cache_dir is None else cache_dir / "digests.json"
        self.known: dict[str, str] = {}
        self.used: dict[str, str] = {}
        if self.file is not None and isinstance(known := read_own(self.file), dict):
            self.known = {identity: digest for identity, digest in known.items() if isinstance(digest, str)}

    def of(self, path: Path) -> str:
        """The digest of a file, or of the names and contents of everything in a folder, hidden and bytecode aside."""
        if not path.is_dir():
            return self._of_file(path)
        digest = sha256()
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inside.parts):
                digest.update(f"{inside.as_posix()}\0{self._of_file(file)}\n".encode())
        return digest.hexdigest()

    def knows(self, path: Path) -> bool:
        """Whether `of` would read no file."""
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        return {_identity(os.stat(file)) for file in files} <= self.known.keys() | self.used.keys()

    def trust(self, file: Path, digest: str, before: Path) -> None:
        """Take over the digest of a file whose bytes were read before another file was written.

        If it has changed since then, or in the same tick of the file system's clock, it is read when it is needed.
        """
        with suppress(OSError):  # it is gone again
            state = os.stat(file)
            if state.st_ctime_ns < os.stat(before).st_ctime_ns:
                self.used[_identity(state)] = digest

    def _of_file(self, file: Path) -> str:
        identity = _identity(regular_file(file))
        digest = self.used.get(identity) or self.known.get(identity) or digest_file(file)
        self.used[identity] = digest
        return digest

    def save(self) -> None:
        """Remember what was used in this run; a lost memory costs only time."""
        if self.file is None or self.used.items() <= self.known.items():
            return
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps(self.known | self.used))


def _identity(state: os.stat_result) -> str:
    """What changes when a file does: the time of its last change of any kind can't be set."""
    times = f"{state.st_mtime_ns}:{state.st_ctime_ns}"
    return f"{state.st_dev}:{state.st_ino}:{state.st_size}:{times}"

"""What a step's key is made of, and the digests of the files that a config names.

A key is a recipe: equal keys mean equal results, and it is known before the step has run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from hfopt.cache.store import digest_file

SCHEMA = 1


def key_of(recipe: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a recipe."""
    text = json.dumps({"schema": SCHEMA, **recipe}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def replace_strings(value: Any, replacements: Mapping[str, str]) -> Any:
    """JSON with some strings replaced by others: input paths by digests of what lies there, references by folders."""
    if isinstance(value, str):
        return replacements.get(value, value)
    if isinstance(value, dict):
        return {key: replace_strings(each, replacements) for key, each in value.items()}
    if isinstance(value, list):
        return [replace_strings(each, replacements) for each in value]
    return value


class Digests:
    """Content digests of local files, remembered by device, inode, size and time of change in ``digests.json``."""

    def __init__(self, cache_dir: Path) -> None:
        self.file = cache_dir / "digests.json"
        self.known: dict[str, str] = {}
        self.used: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self.known = json.loads(self.file.read_text("utf-8"))

    def of(self, path: Path) -> str:
        """The digest of a file, or of the names and contents of everything in a folder (hidden entries aside)."""
        if not path.is_dir():
            return self._of_file(path)
        digest = sha256()
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                digest.update(f"{inside.as_posix()}\0{self._of_file(file)}\n".encode())
        return digest.hexdigest()

    def _of_file(self, file: Path) -> str:
        state = os.stat(file)
        identity = f"{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"
        digest = self.known.get(identity) or digest_file(file)
        self.used[identity] = digest
        return digest

    def save(self) -> None:
        """Remember what was used in this run; a lost memory costs only time."""
        if self.used.items() <= self.known.items():
            return
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.file.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(self.known | self.used), "utf-8")
            os.replace(temporary, self.file)

"""What a run writes into its output_dir, and how files and folders are replaced and removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RECORD = "run.json"
BEST = "best"
LOG = "hfopt.log"


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside a file for its new content. At the end it takes the file's place; after a failure it is removed."""
    temporary = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(file: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all: its folder must exist."""
    with replacing(file) as temporary:
        temporary.write_text(text, "utf-8")


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it. A symbolic link in its place, or in it, is removed and not followed."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)

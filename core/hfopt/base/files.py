"""What hfopt writes into an output folder, and how files and folders are replaced and removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

RECORD = "run.json"
BEST = "best"
LOG = "hfopt.log"


def write_atomically(file: Path, text: str) -> None:
    """Write a file at once or not at all: a reader sees the old text or the new."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it. A symbolic link in its place, or in it, is removed and not followed."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)

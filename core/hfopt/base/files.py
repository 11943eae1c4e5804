"""Names of what a run writes into its output_dir, and how files are written so that no half of one is ever seen."""

from __future__ import annotations

import os
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

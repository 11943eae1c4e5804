"""What a run writes into its output_dir, and how files and folders are replaced and removed."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hfopt.base.errors import PreconditionFailed, UsageError
from hfopt.base.inside import regular_file
from hfopt.base.text import shown

RECORD = "run.json"
BEST = "best"
LOG = "hfopt.log"
_LARGEST = 2**28
"""Bytes of a file that is hfopt's own, and not a model's: any larger one is something else."""
JSON_LIMIT = 20_000_000
"""Bytes of a JSON file that are read: those of models have a tenth of it, and a value may take 20 bytes for each."""
_LONGEST_PATH, _LONGEST_NAME = 4095, 255


def why_no_path(text: str) -> str | None:
    """Why no file can have a path; None if one can."""
    try:
        parts = text.encode().split(b"/")
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(text) > _LONGEST_PATH or max(map(len, parts)) > _LONGEST_NAME:
        return f"is too long for a path: it may have {_LONGEST_PATH:,} bytes, each name in it {_LONGEST_NAME}"
    return "has a NUL in it" if "\0" in text else None


def path_of(text: str | Path) -> Path:
    """Text as a path, which need not be there. What a command line says becomes a path here.

    :raises UsageError: no file can have it
    """
    if (reason := why_no_path(os.fspath(text))) is not None:
        raise UsageError(f"{shown(os.fspath(text))}: {reason}")
    return Path(text)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside a file for its new content. At the end it takes the file's place; after a failure it is removed."""
    temporary = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    try:
        yield temporary
        os.replace(temporary, file)
    except OSError as error:
        error.filename = error.filename or str(file)  # writing to an open file does not name it
        raise
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


def read_own(file: Path) -> Any:
    """What hfopt has written as JSON, and somebody may have damaged.

    :return: of any shape; None if the file is missing, can't be read, or is no JSON
    """
    try:
        return json.loads(own_bytes(file))
    except (OSError, ValueError, RecursionError):
        return None


def own_bytes(file: Path) -> bytes:
    """What a file of hfopt's own holds, unless something else is in its place.

    :raises OSError: it is not there, is no regular file, or is too large to be one of them
    """
    try:
        size = regular_file(file).st_size
    except PreconditionFailed as error:
        raise OSError(errno.EINVAL, error.message, str(file)) from error
    if size > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return file.read_bytes()


def read_json(file: Path) -> Any:
    """What a JSON file of somebody else's holds; numbers are finite, and text can be written as UTF-8.

    :raises PreconditionFailed: it can't be read, has more than 20 MB, or is not JSON
    """
    try:
        if (size := regular_file(file).st_size) > JSON_LIMIT:
            raise PreconditionFailed(f"{file} has {size} bytes; at most {JSON_LIMIT} are read")
        value = json.loads(file.read_bytes().decode(), parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise PreconditionFailed(f"{file} can't be read: {error.strerror}") from error
    except RecursionError as error:
        raise PreconditionFailed(f"{file} is nested too deeply") from error
    except ValueError as error:  # of the text's encoding and of numbers with thousands of digits too
        raise PreconditionFailed(f"{file} is not JSON: {str(error).partition(';')[0]}") from error
    return value


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number[:20]} is not a finite number")
    return value


def lock_folder() -> Path:
    """The folder of the machine's locks: HFOPT_LOCKS, else one folder for all users and runs, whatever their TMPDIR."""
    if written := os.environ.get("HFOPT_LOCKS"):
        return Path(written)
    shared = Path("/tmp")  # noqa: S108 - nothing is read from its files or written to them
    return (shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())) / "hfopt-locks"

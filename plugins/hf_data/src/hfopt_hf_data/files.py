"""What a data file may be: a regular file, within limits, and if it is text, readable to its end.

Files are looked at here before `datasets` opens them, by their bytes and footers: what they mean is read once, by it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.files import regular_file
from hfopt.api.text import size
from hfopt_hf_data import footers
from hfopt_hf_data.limits import Limits, Readable, too_much
from hfopt_hf_data.texts import Text

_CHUNK = 1 << 20
_COMPRESSED: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\x04\x22\x4d\x18": "compressed with lz4",
}
_TAR = (257, b"ustar")
_TEXT = ("csv", "json", "text")


def readable(file: Path, kind: str, options: Mapping[str, Any], limits: Limits, folder: Path) -> Readable:
    """See that a file can be read in bounded time and memory.

    :param kind: csv, json...
    :param options: as `datasets` knows them for this kind
    :param folder: for what is decompressed
    :raises PreconditionFailed: it can't; says which file, where in it, and what raises the limit
    """
    try:
        length = regular_file(file).st_size
        if not length:
            raise PreconditionFailed(f"{file} is empty")
        if kind in _TEXT:
            file, original = _plain(file, limits.of(length), folder), file
            return Text(original, file, options, limits).look(kind, folder)
        if limits.whole is not None and length > limits.whole:
            too_much(file, length, limits.whole)
        return footers.look(file, limits) if kind == "parquet" else Readable(file)
    except OSError as error:
        raise PreconditionFailed(f"{file} can't be read: {error.strerror or error}") from error


def _plain(file: Path, limit: int, folder: Path) -> Path:
    """The file, decompressed if it is compressed."""
    opener = _kind(file)
    if opener is None:
        if file.stat().st_size > limit:
            too_much(file, file.stat().st_size, limit)
        return file
    plain = folder / f"{len(os.listdir(folder))}.plain"
    done = 0
    try:
        with opener(file) as source, plain.open("xb") as target:
            while chunk := source.read(_CHUNK):
                done += len(chunk)
                if done > limit:
                    raise PreconditionFailed(
                        f"{file} ({size(file.stat().st_size)}) holds more than {limit:,} bytes decompressed, which is "
                        "the limit",
                        hint="if that is right, set max_bytes to more",
                    )
                target.write(chunk)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise PreconditionFailed(f"{file} can't be decompressed: {error}") from error
    if not done:
        raise PreconditionFailed(f"{file} is empty once decompressed")
    if _kind(plain):
        raise PreconditionFailed(f"{file} is compressed twice", hint="decompress it once")
    return plain


def _kind(file: Path) -> Any:
    """What opens a compressed file; None if it is not compressed."""
    with file.open("rb") as stream:
        head = stream.read(_TAR[0] + len(_TAR[1]))
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            raise PreconditionFailed(f"{file} is {name}, which hfopt does not read", hint="unpack it")
    if head[_TAR[0] :] == _TAR[1]:
        raise PreconditionFailed(f"{file} is a tar archive, which hfopt does not read", hint="unpack it")
    return next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)

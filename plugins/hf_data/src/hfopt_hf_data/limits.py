"""How much of data is read, and what is said of more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hfopt import PreconditionFailed

LEAST, RATIO = 100_000_000, 200
"""Without `max_bytes` a file may hold so many times its size, and so much in any case."""


@dataclass(frozen=True)
class Limits:
    """Those of a container's config.

    :param whole: bytes of a file, decompressed; None: `RATIO` times its size, at least `LEAST`
    :param field: bytes of one value, or of one line
    """

    whole: int | None
    field: int

    def of(self, length: int) -> int:
        """What a file of that many bytes may hold."""
        return self.whole or max(RATIO * length, LEAST)


@dataclass(frozen=True)
class Readable:
    """A file that `datasets` may open.

    :param path: the file, or what was made of it
    :param widest: the most bytes that a row may have, as far as that is known
    """

    path: Path
    widest: int = 1


def too_much(file: Path, found: int, limit: int, what: str = "bytes of data") -> NoReturn:
    raise PreconditionFailed(
        f"{file} holds {found:,} {what}, and the limit is {limit:,}", hint="if that is right, set max_bytes to more"
    )


def too_long(place: str, limit: int) -> NoReturn:
    raise PreconditionFailed(
        f"{place} is longer than {limit:,} bytes, the limit", hint="if that is right, set max_field_bytes to more"
    )

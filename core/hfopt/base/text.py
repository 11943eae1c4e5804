"""How sizes, counts, times and paths are written for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

_LONGEST_NAME = 100
"""Beyond it no near name is looked for: that takes time with the square of its length."""


def size(number: int) -> str:
    """``91.0 MB``."""
    from rich.filesize import decimal

    return decimal(number)


def counts(numbers: Mapping[str, int]) -> str:
    """``13 SkipLayerNormalization, 6 Attention``; ``nothing`` of none."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items()) or "nothing"


def age(at: str) -> str:
    """How long ago a time was: ``5 min ago``.

    :param at: ISO 8601 with an offset
    """
    seconds = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def duration(seconds: float) -> str:
    """``3.1 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def near(path: Path) -> str:
    """A path as short as the current folder allows."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, if one is near."""
    import difflib

    if len(name) > _LONGEST_NAME:
        return None
    by_folded = {each.casefold(): each for each in candidates if len(each) <= _LONGEST_NAME}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """``did you mean 'per_channel'?``, if a candidate is near."""
    near = nearest(name, candidates)
    return None if near is None else f"did you mean {near!r}?"


def now() -> str:
    """The time as records have it: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def printable(text: str) -> str:
    r"""Text on one line that moves no cursor and changes no colour: control characters are written as ``\x1b``."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown(text: str) -> str:
    """Text of several lines as `printable`; of one that is very long, its beginning and its end."""
    lines = (line if len(line) <= 2_000 else f"{line[:1_000]}...{line[-200:]}" for line in text.split("\n"))
    return "\n".join(map(printable, lines))

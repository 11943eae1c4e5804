"""A config as JSON with comments, which hfopt's own reader accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfopt import UsageError
from hfopt_init.compose import Guess, Place

STEP = "    "
LONGEST = 100
"""Characters of a value that stands on one line."""


def write(target: Path, guess: Guess) -> None:
    """Write the config into a new file.

    :raises UsageError: the file is there already, or can't be written
    """
    try:
        with open(target, "x", encoding="utf-8") as stream:
            stream.write(render(guess.config, guess.comments))
    except OSError as error:
        raise UsageError(f"{target} can't be written: {error.strerror or error}") from error


def render(config: Mapping[str, Any], comments: Mapping[Place, str]) -> str:
    """JSON with a comment above each place that has one; that of ``()`` stands at the top."""
    return "".join(f"// {line}\n" for line in comments.get((), "").splitlines()) + _value(config, comments, ()) + "\n"


def _value(value: Any, comments: Mapping[Place, str], place: Place) -> str:
    short = json.dumps(value, ensure_ascii=False)
    below = any(len(each) > len(place) and each[: len(place)] == place for each in comments)
    if not isinstance(value, dict | list) or (len(short) + len(STEP) * len(place) <= LONGEST and not below):
        return short
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    inner, lines = STEP * (len(place) + 1), []
    for number, (key, each) in enumerate(pairs, 1):
        at = (*place, key)
        lines += [f"{inner}// {line}" for line in comments.get(at, "").splitlines()]
        name = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(value, dict) else ""
        lines.append(f"{inner}{name}{_value(each, comments, at)}{',' if number < len(value) else ''}")
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, *lines, STEP * len(place) + closing])

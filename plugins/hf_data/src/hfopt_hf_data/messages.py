"""How what stands in data is written in messages: cut where it is long."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.text import did_you_mean


def shortened(text: Any, most: int = 300) -> str:
    """So much of a text as a message can hold."""
    text = str(text)
    return text if len(text) <= most else f"{text[:most]}..."


def repr_of(value: Any) -> str:
    """A value as Python writes it."""
    return shortened(repr(value[:100] if isinstance(value, str | bytes | list) else value), 80)


def listed(names: Collection[Any], most: int = 20) -> str:
    """Names: the first of them, if there are very many."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*(shortened(name, 300) for name in islice(names, most)), *more])


def near_miss(name: str, known: Collection[str]) -> str | None:
    """What was probably meant, among those that a person may have meant."""
    return did_you_mean(name, list(islice(known, 1_000)))


def unknown(fact: str, name: str, known: Collection[str]) -> PreconditionFailed:
    """The failure that something is not among what there is, with the near miss."""
    return PreconditionFailed(f"{fact} {listed(known)}", hint=near_miss(name, known))

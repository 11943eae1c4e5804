"""Sets of nodes that stay in float, and the search for one of which none can be left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Trials:
    """What has been tried: which nodes stayed in float, and how far off the model then was."""

    attempt: Callable[[tuple[str, ...]], tuple[float, float]]
    limit: int
    done: dict[tuple[str, ...], tuple[float, float]] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        return len(self.done) >= self.limit

    def agrees(self, kept: Sequence[str]) -> bool:
        """Whether the model is within what is allowed if these nodes stay in float."""
        key = tuple(kept)
        if key not in self.done:
            self.done[key] = self.attempt(key)
        difference, allowed = self.done[key]
        return difference <= allowed

    def report(self) -> list[dict[str, Any]]:
        """As JSON; a difference that is not finite is null."""
        return [
            {"nodes": len(kept), "difference": difference if math.isfinite(difference) else None, "allowed": allowed}
            for kept, (difference, allowed) in self.done.items()
        ]


def smallest(
    items: Sequence[str], agrees: Callable[[Sequence[str]], bool], exhausted: Callable[[], bool]
) -> tuple[str, ...]:
    """A small subset that still agrees, by delta debugging: neighbours are left out together, then ever fewer.

    If adding to a set that agrees never makes it disagree, no single item of the result can be left out.
    Source: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002 (ddmin).

    :param items: all of them, which agree
    :param exhausted: whether to stop at the smallest that was found
    """
    kept, parts = tuple(items), 2
    while len(kept) > 1:
        size = math.ceil(len(kept) / parts)
        chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
        rests = [tuple(item for item in kept if item not in chunk) for chunk in map(set, chunks)] if parts > 2 else []
        for number, candidate in enumerate((*chunks, *rests)):
            if exhausted():
                return kept
            if agrees(candidate):
                kept, parts = candidate, 2 if number < len(chunks) else max(parts - 1, 2)
                break
        else:
            if parts >= len(kept):
                return kept
            parts = min(2 * parts, len(kept))
    return kept

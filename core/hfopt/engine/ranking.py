"""Which of several measured models is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from hfopt.api.record import CandidateRecord, Figures
from hfopt.config.figures import Figure

_KINDS = {"ms": "speed", "rows/s": "speed", "bytes": "size"}
"""What a figure is about, by its unit; of any other unit: accuracy."""


MOST_RIVALS = 3
"""Models that are timed against the best one of a search at its end."""


def merit(candidate: CandidateRecord) -> tuple[float, list[float]]:
    """A key by which better models come first: what misses its goals least, then figures by priority."""
    missed = candidate["goals_missed_by"]
    unknown = inf if candidate["goals_met"] is False else 0.0
    return unknown if missed is None else missed, [_signed(figure) for figure in _by_priority(candidate)]


def eligible(candidate: CandidateRecord) -> bool:
    """Whether a search may choose it: all of it was found, and it is no slower than the input model.

    That is of no account where a goal asks for size.
    """
    figures = candidate["metrics"].values()
    for_size = any("goal" in figure and _kind(figure) == "size" for figure in figures)
    return candidate["status"] == "succeeded" and (for_size or not any(map(is_slower, figures)))


def is_slower(figure: Mapping[str, Any]) -> bool:
    """Whether a model is timed, and slower than the input model beyond doubt."""
    return "speedup" in figure and figure["speedup"]["low"] is not None and bool(figure["speedup"]["high"] < 1)


def objectives(candidate: CandidateRecord) -> tuple[float, ...]:
    """Of accuracy, speed and size the figure of the highest priority, where there is one; less is better."""
    first: dict[str, float] = {}
    for figure in _by_priority(candidate):
        first.setdefault(_kind(figure), _signed(figure))
    return tuple(first[kind] for kind in sorted(first))


def limits(figures: Sequence[Figure], incumbent: CandidateRecord, before: Figures) -> dict[str, float]:
    """What a model must reach on all rows, or the incumbent is better: of figures that are proportions, by key.

    It must not fall behind in what decides first, nor miss a goal, unless the incumbent does.

    :param figures: of both
    :param before: the input model's
    """
    found: dict[str, float] = {}
    first = min(figures, key=lambda figure: figure.priority)
    for figure in figures if incumbent["goals_met"] is not False else ():
        baseline = before.get(figure.key, {}).get("value")
        goal = None if figure.goal is None else figure.goal.limit(baseline, figure.higher_is_better)
        own = incumbent["metrics"][figure.key]["value"] if figure is first else None
        if figure.proportion and (known := [each for each in (goal, own) if each is not None]):
            found[figure.key] = max(known)
    return found


def rivals(best: CandidateRecord, others: Iterable[CandidateRecord]) -> tuple[str | None, list[CandidateRecord]]:
    """Models that nothing tells from the best one but how long they take, and that not beyond doubt.

    :return: the key of the figure that decides, and at most `MOST_RIVALS`, the best first
    """
    ranked = sorted(best["metrics"].items(), key=lambda pair: int(pair[1]["priority"]))
    timed = next((at for at, (_, figure) in enumerate(ranked) if "speedup" in figure), None)
    if timed is None or (slowest := ranked[timed][1]["speedup"]["low"]) is None:
        return None, []
    key = ranked[timed][0]
    goals, figures = merit(best)
    close = []
    for each in others:
        own_goals, own = merit(each)
        fastest = each["metrics"].get(key, {}).get("speedup", {}).get("high")
        if (own_goals, own[:timed]) == (goals, figures[:timed]) and fastest is not None and fastest >= slowest:
            close.append(each)
    return key, sorted(close, key=merit)[:MOST_RIVALS]


def front(candidates: Iterable[CandidateRecord]) -> list[CandidateRecord]:
    """The Pareto front: those to which no other is better in one objective and not worse in any."""
    kept: list[tuple[Sequence[float], CandidateRecord]] = []
    for found, candidate in sorted(((objectives(each), each) for each in candidates), key=lambda pair: pair[0]):
        if not any(_dominates(better, found) for better, _ in kept):
            kept.append((found, candidate))
    return [candidate for _, candidate in kept]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and len(one) == len(other) and all(a <= b for a, b in zip(one, other, strict=True))


def _by_priority(candidate: CandidateRecord) -> list[Mapping[str, Any]]:
    return sorted(candidate["metrics"].values(), key=lambda figure: int(figure["priority"]))


def _kind(figure: Mapping[str, Any]) -> str:
    return _KINDS.get(figure["unit"], "accuracy")


def _signed(figure: Mapping[str, Any]) -> float:
    """Less is better; of what was timed, the ratio to the input model, which the machine's drift leaves alone."""
    value = figure.get("speedup", figure)["value"]
    return float(-value if "speedup" in figure or figure["higher_is_better"] else value)

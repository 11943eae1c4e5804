"""What a run tries next, and which candidate is its result: decisions of their own, which a search takes otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hfopt.engine.state import EndedRun
from hfopt.planning.builder import Builder
from hfopt.planning.graph import Branch, Candidate, Final, Look


def last_candidate(branch: Branch, run: EndedRun) -> Candidate | None:
    """The model of the last pass, if all that was asked of it is there."""
    last = branch.candidates[-1]
    return last if run.state.done(last.steps()) else None


@dataclass(frozen=True)
class Strategy:
    """How a run decides.

    :param more: candidates to try besides, to look at, or to time against each other, each of a branch of the plan;
        asked at the start and whenever a step has settled, each time until it has none
    :param best: which candidate of a branch is its result; None if there is none
    """

    more: Callable[[Builder, EndedRun], Iterable[tuple[Branch, Candidate | Final | Look]]] = lambda *_: ()
    best: Callable[[Branch, EndedRun], Candidate | None] = last_candidate


EVERY_PASS = Strategy()
"""What the config asks for is run, and the last pass's model is the result."""

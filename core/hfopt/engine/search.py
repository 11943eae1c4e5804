"""A search: which candidates are tried, one after another on each accelerator, and which is the best.

Nothing of it is stored: algorithms propose the same points after the same trials, and finished steps are in the cache,
so that a search that is started again goes through its finished trials in no time and then goes on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hfopt.api.record import CandidateRecord
from hfopt.api.search import Point, SearchAlgorithm, Trial
from hfopt.config.resolve import Search
from hfopt.config.space import ConfiguredPass, SearchSpace, Stage
from hfopt.engine.ranking import eligible, merit, objectives
from hfopt.engine.record import candidate_record
from hfopt.engine.reporting import Reporter
from hfopt.engine.state import EndedRun
from hfopt.engine.strategy import Strategy
from hfopt.planning.builder import Builder
from hfopt.planning.graph import Branch, Candidate


@dataclass(frozen=True)
class Attempt:
    """What is to be tried.

    :param choices: what the search has chosen, for people
    :param whole: whether all passes of a flow are in it
    """

    passes: Mapping[str, ConfiguredPass]
    choices: Mapping[str, Any]
    whole: bool = True


Course = Generator[Attempt, CandidateRecord, None]
"""Yields what is tried next, and is sent what came of it."""


def searching(search: Search, reporter: Reporter) -> Strategy:
    """The strategy that a config's ``search_strategy`` asks for."""
    searches: dict[Branch, BranchSearch] = {}

    def more(builder: Builder, run: EndedRun) -> Iterator[tuple[Branch, Candidate]]:
        for branch in run.plan.branches:
            found = searches.setdefault(branch, BranchSearch(search, branch, reporter))
            if (candidate := found.next(builder, run)) is not None:
                yield branch, candidate

    return Strategy(more, lambda branch, _: searches[branch].best if branch in searches else None)


class BranchSearch:
    """The search on one accelerator.

    Its ``best`` is the best candidate so far of those that may be chosen.
    """

    def __init__(self, search: Search, branch: Branch, reporter: Reporter) -> None:
        self.best: Candidate | None = None
        self._search, self._branch, self._reporter = search, branch, reporter
        self._started = time.monotonic()
        self._tried = 0
        self._best_record: CandidateRecord | None = None
        self._course = joint(search) if search.section.execution_order == "joint" else pass_by_pass(search)
        self._attempt = next(self._course, None)
        self._candidate: Candidate | None = None

    def next(self, builder: Builder, run: EndedRun) -> Candidate | None:
        """The next candidate, when all that the one before needs is settled; None: not yet, or no more."""
        if self._candidate is not None and self._attempt is not None:
            if not all(run.state.settled(step) for step in self._candidate.steps()):
                return None
            self._attempt = self._after(self._attempt, self._candidate, run)
        if self._attempt is None:
            return None
        passes = self._attempt.passes
        figures = next(reversed(dict(passes).values())).figures or builder.config.figures
        self._candidate = builder.candidate(
            self._branch, passes, figures, required=False, choices=self._attempt.choices
        )
        return self._candidate

    def _after(self, attempt: Attempt, candidate: Candidate, run: EndedRun) -> Attempt | None:
        """What is tried after a candidate that has ended."""
        record = candidate_record(candidate, self._branch, run)
        self._tried += 1
        if attempt.whole and eligible(record) and (not self._best_record or merit(record) < merit(self._best_record)):
            self.best, self._best_record = candidate, record
        self._reporter.tried(self._tried, record, best=self.best is candidate)
        section = self._search.section
        if section.stop_when_goals_met and self.best is candidate and record["goals_met"]:
            return None
        if self._tried == section.max_iter:
            return None
        if section.max_time is not None and time.monotonic() - self._started >= section.max_time:
            return None
        try:
            return self._course.send(record)
        except StopIteration:
            return None


def joint(search: Search) -> Course:
    """All passes of a flow are chosen together, and the model of the last is measured."""
    yield from _over(search.space, search, whole=True)


def pass_by_pass(search: Search) -> Course:
    """One pass after another: what is best after it stays, and the next is chosen."""
    for flow in search.space.flows:
        taken: list[Stage] = []
        for stage in flow:
            space = SearchSpace(((*taken, stage),))
            point = yield from _over(space, search, whole=stage is flow[-1])
            if point is None:
                break
            taken.append(Stage.fixed(stage.name, stage.choice(point)))


def _over(space: SearchSpace, search: Search, *, whole: bool) -> Generator[Attempt, CandidateRecord, Point | None]:
    """Try what the algorithm proposes.

    :return: the best point; None: none may be chosen
    """
    algorithm: SearchAlgorithm = search.algorithm.cls(search.algorithm.config, space)
    found: list[tuple[tuple[bool, list[float]], Point]] = []
    last = None
    while (point := algorithm.propose(last)) is not None:
        record = yield Attempt(space.passes(point), space.values(point), whole)
        succeeded = record["status"] == "succeeded"
        last = Trial(point, objectives(record) if succeeded else None, record["goals_met"])
        if eligible(record):
            found.append((merit(record), point))
    return min(found, key=lambda pair: pair[0])[1] if found else None

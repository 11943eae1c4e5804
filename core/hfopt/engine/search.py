"""A search: which candidates are tried, one after another on each accelerator, and which is the best.

Nothing of it is stored: algorithms propose the same points after the same trials, and finished steps are in the cache,
so that a search that is started again goes through its finished trials in no time and then goes on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hfopt.api.record import CandidateRecord
from hfopt.api.search import Point, SearchAlgorithm, Trial
from hfopt.config.resolve import Search
from hfopt.config.space import ConfiguredPass, SearchSpace, Stage
from hfopt.engine.ranking import eligible, limits, merit, objectives, rivals
from hfopt.engine.record import candidate_record, input_metrics
from hfopt.engine.reporting import Reporter
from hfopt.engine.state import EndedRun
from hfopt.engine.strategy import Strategy
from hfopt.planning.builder import Builder
from hfopt.planning.graph import Branch, Candidate, Final, Look

SHARES = (16, 8, 4, 2)
"""One in so many rows is looked at, before all are."""
FEWEST_ROWS = 64
"""Less than that is not looked at."""


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

    def more(builder: Builder, run: EndedRun) -> Iterator[tuple[Branch, Candidate | Final | Look]]:
        for branch in run.plan.branches:
            if branch not in searches:
                searches[branch] = BranchSearch(search, branch, builder, run, reporter)
            if (wanted := searches[branch].next()) is not None:
                yield branch, wanted

    return Strategy(more, lambda branch, _: searches[branch].best if branch in searches else None)


class BranchSearch:
    """The search on one accelerator.

    Its ``best`` is the best candidate so far of those that may be chosen.
    """

    def __init__(self, search: Search, branch: Branch, builder: Builder, run: EndedRun, reporter: Reporter) -> None:
        self.best: Candidate | None = None
        self._search, self._branch, self._builder, self._run, self._reporter = search, branch, builder, run, reporter
        self._eligible: dict[Candidate, CandidateRecord] = {}
        self._wanted = self._course()
        self._last: Candidate | Final | Look | None = None

    def next(self) -> Candidate | Final | Look | None:
        """What is to be done now, once all that was asked for before is settled; None: not yet, or nothing more."""
        last = self._last
        steps = [] if last is None else last.steps()
        steps += last.baseline if isinstance(last, Candidate) else ()  # relative goals need it
        if not all(self._run.state.settled(step) for step in steps):
            return None
        self._last = next(self._wanted, None)
        return self._last

    def _course(self) -> Iterator[Candidate | Final | Look]:
        """Trials, each resumed when it is settled, and finals."""
        section, started, tried = self._search.section, time.monotonic(), 0
        course = joint(self._search) if section.execution_order == "joint" else pass_by_pass(self._search)
        attempt = next(course, None)
        while attempt is not None:
            candidate = yield from self._looked_at(attempt)
            yield candidate
            tried += 1
            record = candidate_record(candidate, self._branch, self._run)
            self._consider(candidate, record, whole=attempt.whole)
            self._reporter.tried(tried, record, best=self.best is candidate)
            met = section.stop_when_goals_met and self.best is candidate and record["goals_met"]
            late = section.max_time is not None and time.monotonic() - started >= section.max_time
            if met or late or tried == section.max_iter:
                break
            attempt = _after(course, record)
        yield from self._finals()
        yield from self._scored_as_chosen()

    def _looked_at(self, attempt: Attempt) -> Generator[Look, None, Candidate]:
        """Look at a model on growing shares of the rows, until it proves to be a clear loser, if it ever does."""
        branch, passes, manifests = self._branch, attempt.passes, self._run.state.manifests
        figures = next(reversed(dict(passes).values())).figures or self._builder.config.figures
        made = partial(self._builder.candidate, branch, passes, figures, required=False, choices=attempt.choices)
        best, looked = self.best, list[int]()
        if best is None or not self._search.section.drop_early or not attempt.whole or figures != best.figures:
            return made()
        least = limits(figures, self._eligible[best], input_metrics(branch, [best], self._run))
        data = (branch.data[each.data] for each in figures if each.key in least and each.data is not None)
        rows = min((manifests[each].report["rows"] for each in data), default=0)
        for share in (each for each in SHARES if rows >= each * FEWEST_ROWS):
            looked.append(share)
            look = self._builder.look(branch, passes, best, least, looked)
            yield look
            found = self._run.state.manifests_of(look.scores)
            if lost := [_reason(each.report, least) for each in found if each.report["lost"]]:
                return replace(made(shares=looked), scores=look.scores, measurements=(), dropped=lost[0])
            if len(found) < len(look.scores):
                break
        return made(shares=looked)

    def _consider(self, candidate: Candidate, record: CandidateRecord, *, whole: bool) -> None:
        if whole and eligible(record):
            self._eligible[candidate] = record
            if self.best is None or merit(record) < merit(self._eligible[self.best]):
                self.best = candidate

    def _finals(self) -> Iterator[Final]:
        """The best one against each that only its time tells from it: which is faster of two that run in turn."""
        if self.best is None:
            return
        others = {record["id"]: each for each, record in self._eligible.items()}
        best = self._eligible[self.best]
        key, close = rivals(best, [each for each in self._eligible.values() if each["id"] != best["id"]])
        for challenger in (others[record["id"]] for record in close):
            models = self.best.model, challenger.model
            figures = [figure for figure in challenger.figures if figure.key == key]
            [measurement] = self._builder.measurements(self._branch, *models, figures, decides=True)
            yield Final(self.best, challenger, str(key), measurement)
            manifest = self._run.state.manifests.get(measurement)
            if manifest and (speedup := manifest.metrics[str(key)].speedup) and speedup.value > 1:
                self.best = challenger

    def _scored_as_chosen(self) -> Iterator[Look]:
        """The best one once more, by the figure that decides first, if several were compared by it."""
        if (best := self.best) is None:
            return
        first, met = min(best.figures, key=lambda figure: figure.priority), self._eligible[best]["goals_met"]
        alike = (each for each in self._eligible if each.figures == best.figures and each is not best)
        rivals = [each for each in alike if self._eligible[each]["goals_met"] == met]
        if first.proportion and rivals:
            yield self._builder.chosen(self._branch, best, rivals, first)


def _reason(report: Mapping[str, Any], least: Mapping[str, float]) -> str:
    """Why a model is given up, by what a look at it has found."""
    key = report["lost"][0]
    return f"{key} can't reach {least[key]:.4g} on all {report['of']:,} rows, as {report['rows']:,} of them show"


def _after(course: Course, record: CandidateRecord) -> Attempt | None:
    """What is tried after what came of the last attempt; None: nothing more."""
    try:
        return course.send(record)
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
    found: list[tuple[tuple[float, list[float]], Point]] = []
    last = None
    while (point := algorithm.propose(last)) is not None:
        record = yield Attempt(space.passes(point), space.values(point), whole)
        succeeded = record["status"] == "succeeded"
        dropped = record["status"] == "dropped"
        missed = record["goals_missed_by"]
        last = Trial(point, objectives(record) if succeeded else None, record["goals_met"], missed, dropped=dropped)
        if eligible(record):
            found.append((merit(record), point))
    return min(found, key=lambda pair: pair[0])[1] if found else None

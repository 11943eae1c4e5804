"""run.json: what a run did and found, in the shape of the public contract (docs/reference/run-json.md)."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

from hfopt.api.metrics import Estimate, Metric
from hfopt.api.protocol import Fault
from hfopt.api.record import CandidateRecord, Figures, FinalRecord, ResultRecord, StepRecord
from hfopt.base.component import PROJECT
from hfopt.base.files import RECORD, write_atomically
from hfopt.base.text import now
from hfopt.base.version import __version__
from hfopt.config.figures import Figure
from hfopt.discovery.plugins import versions
from hfopt.engine.ranking import front
from hfopt.engine.state import SPOILT, EndedRun, RunState
from hfopt.engine.summary import text_of
from hfopt.measuring import machine
from hfopt.planning.graph import Branch, Candidate, Final, Step


@dataclass(frozen=True, repr=False)
class RunRecord:
    """A finished run.

    :param data: run.json
    :param folder: where run.json and best/ lie
    """

    data: Mapping[str, Any]
    folder: Path

    @property
    def status(self) -> str:
        """succeeded, goals_not_met, failed or interrupted."""
        return str(self.data["status"])

    @property
    def results(self) -> list[ResultRecord]:
        """One entry per accelerator."""
        return list(self.data["results"])

    def summary(self) -> str:
        """The tables that `hfopt run` ends with."""
        return text_of(self.data, self.folder)

    def __repr__(self) -> str:
        """The summary, so that the last line of a notebook's cell shows it."""
        return f"{self.status}\n{self.summary()}"


class Interrupted(KeyboardInterrupt):
    """The user stopped a run: a KeyboardInterrupt that comes with what was done until then.

    :param record: as a run that ends returns it; its status is interrupted
    """

    def __init__(self, record: RunRecord) -> None:
        super().__init__("the run was interrupted; the same call goes on where it stopped")
        self.record = record


def write_record(run: EndedRun, *, running: bool = False) -> RunRecord:
    """Make the record of a run that has ended, however it ended, and write run.json.

    :param running: it has not: what it says until then is that the run was interrupted
    """
    found = {
        branch: {each: candidate_record(each, branch, run) for each in branch.candidates}
        for branch in run.plan.branches
    }
    for candidates in found.values():
        for each in front(record for record in candidates.values() if record["status"] == "succeeded"):
            each["pareto"] = True
    environment = {"python": platform.python_version(), "platform": platform.platform(), **machine.describe()}
    data = {
        "schema": 1,
        "hfopt": __version__,
        "status": "interrupted" if running or run.state.interrupted else _status(found, run),
        "config": run.plan.config.document.value,
        "results": [_result(branch, list(candidates.values()), run) for branch, candidates in found.items()],
        "skipped_accelerators": [{**each.model_dump(), "reason": reason} for each, reason in run.plan.skipped],
        "environment": {**environment, "plugins": dict(versions(run.plugins.infos)), "packages": _packages(run)},
        "started": run.started,
        "ended": now(),
    }
    write_atomically(run.folder / RECORD, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return RunRecord(data, run.folder)


def _packages(run: EndedRun) -> dict[str, dict[str, str]]:
    """What the results of each system depend on besides hfopt and its plugins: version by name."""
    own = {PROJECT, *versions(run.plugins.infos)}
    found: dict[str, dict[str, str]] = {}
    for step in run.state.manifests:
        for each in run.state.identities[step].recipe.get("versions", {}).values():
            found.setdefault(step.system, {}).update(each)
    names = {system: sorted(name for name in each.keys() - own if ":" not in name) for system, each in found.items()}
    return {system: {name: found[system][name] for name in names[system]} for system in names}


def _status(found: Mapping[Branch, Mapping[Candidate, CandidateRecord]], run: EndedRun) -> str:
    """A run fails without a result, and if a candidate that it requires does. Goals count of these candidates alone."""
    pairs = [(branch, *pair) for branch, candidates in found.items() for pair in candidates.items()]
    counted = [record for branch, each, record in pairs if each.required or each is run.best[branch]]
    if None in run.best.values() or any(record["status"] != "succeeded" for record in counted):
        return "failed"
    return "goals_not_met" if any(record["goals_met"] is False for record in counted) else "succeeded"


def _result(branch: Branch, candidates: list[CandidateRecord], run: EndedRun) -> ResultRecord:
    best = run.best[branch]
    return {
        "accelerator": branch.accelerator.model_dump(),
        "system": run.plan.config.target,
        "input_model": {
            "id": run.identifier(branch.model),
            "size_bytes": run.size(branch.model),
            "metrics": input_metrics(branch, branch.candidates, run),
        },
        "candidates": candidates,
        "finals": [_final(each, run) for each in branch.finals],
        "chosen": {
            key: metric.model_dump()
            for manifest in run.state.manifests_of(step for each in branch.looks for step in each.scores)
            for key, metric in manifest.metrics.items()
        },
        "best": None if best is None else run.identifier(best.model),
    }


def _final(final: Final, run: EndedRun) -> FinalRecord:
    """Two candidates that were timed against each other, or should have been."""
    manifest = run.state.manifests.get(final.measurement)
    speedup = None if manifest is None else manifest.metrics[final.key].speedup
    return {
        "incumbent": run.identifier(final.incumbent.model),
        "challenger": run.identifier(final.challenger.model),
        "metric": final.key,
        "speedup": None if speedup is None else speedup.model_dump(),
    }


def candidate_record(candidate: Candidate, branch: Branch, run: EndedRun) -> CandidateRecord:
    """A model that was measured, or should have been."""
    own, faults = candidate.steps(), run.state.faults
    failed = sorted((step for step in own if step in faults), key=lambda step: faults[step].type == SPOILT)
    errors = ({"step": step.name, **faults[step].model_dump(exclude={"traceback"})} for step in failed)
    given_up = Fault(type="Dropped", message=candidate.dropped or "").model_dump(exclude={"traceback"})
    metrics = _candidate_metrics(candidate, branch, run)
    before, succeeded = input_metrics(branch, [candidate], run), run.state.done(own)
    missed = _goals_missed_by(candidate.figures, metrics, before) if candidate.dropped is None else None
    return {
        "id": run.identifier(candidate.model),
        "status": "failed" if not succeeded else "succeeded" if candidate.dropped is None else "dropped",
        "error": next(errors, None if candidate.dropped is None else {"step": candidate.scores[-1].name, **given_up}),
        "steps": [_step(step, run.state) for step in own],
        "size_bytes": run.size(candidate.model),
        "metrics": metrics,
        "goals_met": None if missed is None else not missed,
        "goals_missed_by": missed if missed is not None and isfinite(missed) else None,
        "pareto": False,  # until it is compared with the others
        "choices": dict(candidate.choices),
    }


def _goals_missed_by(figures: Iterable[Figure], metrics: Figures, before: Figures) -> float | None:
    """How far all goals together are missed, each as a part of its limit; 0: all are met; None: there are none.

    It is infinite where a figure could not be found.
    """
    missed = []
    for figure in figures:
        if figure.goal is not None:
            own, baseline = metrics.get(figure.key, {}).get("value"), before.get(figure.key, {}).get("value")
            missed.append(inf if own is None else figure.goal.missed_by(own, baseline, figure.higher_is_better))
    return sum(missed) if missed else None


def _step(step: Step, state: RunState) -> StepRecord:
    """One of the steps that a candidate took."""
    manifest, cached = state.manifests.get(step), step in state.cached
    return {
        "name": step.name,
        "type": step.component,
        "config": step.config.model_dump(mode="json"),
        "key": state.key(step),
        "cached": cached,
        "seconds": None if manifest is None else manifest.seconds,
        "peak_rss_bytes": None if manifest is None else manifest.peak_rss_bytes,
        "attempts": 0 if cached else 1,
    }


def input_metrics(branch: Branch, candidates: Iterable[Candidate], run: EndedRun) -> Figures:
    """The input model's figures that these candidates are compared by.

    It is timed with every candidate anew; of several timings the last stands here.
    """
    found = _bytes(run.size(branch.model), None)
    figures: dict[str, Figure] = {}
    for candidate in candidates:
        figures |= {figure.key: figure for figure in candidate.figures}
        for manifest in run.state.manifests_of(candidate.baseline):
            found |= manifest.metrics
        for manifest in run.state.manifests_of(candidate.measurements):
            found |= {key: Metric.model_validate(metric) for key, metric in manifest.report["baseline"].items()}
    return _recorded(figures.values(), found)


def _candidate_metrics(candidate: Candidate, branch: Branch, run: EndedRun) -> Figures:
    found = _bytes(run.size(candidate.model), run.size(branch.model))
    for manifest in run.state.manifests_of((*candidate.scores, *candidate.measurements)):
        found |= manifest.metrics
    return _recorded(candidate.figures, found)


def _bytes(size: int | None, baseline: int | None) -> dict[str, Metric]:
    """The metric ``size``, where the size is known."""
    if size is None:
        return {}
    difference = None if baseline is None else Estimate(value=size - baseline)
    return {"size": Metric(value=size, unit="bytes", higher_is_better=False, difference=difference)}


def _recorded(figures: Iterable[Figure], found: Mapping[str, Metric]) -> Figures:
    """The wanted figures that were found, in the order of the config, as run.json has them."""
    pairs = ((figure, found.get("size" if figure.kind == "size" else figure.key)) for figure in figures)
    return {
        figure.key: {
            **metric.model_dump(),
            "higher_is_better": figure.higher_is_better,
            "priority": figure.priority,
            **({} if figure.goal is None else {"goal": figure.goal.model_dump()}),
        }
        for figure, metric in pairs
        if metric is not None
    }

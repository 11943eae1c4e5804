"""run.json: what a run did and found, in the shape of the public contract (docs/reference/run-json.md)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt.base.files import RECORD
from hfopt.base.version import __version__
from hfopt.cache.store import ArtifactStore, now
from hfopt.config.figures import Figure
from hfopt.discovery.plugins import Plugins, versions
from hfopt.engine.summary import text_of
from hfopt.measuring import machine
from hfopt.planning.graph import Branch, Candidate, Plan, Step

if TYPE_CHECKING:
    from hfopt.engine.state import RunState


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
    def results(self) -> list[dict[str, Any]]:
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


def make_record(
    plan: Plan, state: RunState, store: ArtifactStore, plugins: Plugins, folder: Path, started: str
) -> RunRecord:
    """The record of a run that has ended, however it ended."""
    results = [_result(plan, branch, state, store) for branch in plan.branches]
    return RunRecord(
        {
            "schema": 1,
            "hfopt": __version__,
            "status": "interrupted" if state.interrupted else _status(results),
            "config": plan.config.document.value,
            "results": results,
            "skipped_accelerators": [
                {**accelerator.model_dump(), "reason": reason} for accelerator, reason in plan.skipped
            ],
            "environment": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                **machine.describe(),
                "plugins": dict(versions(plugins.infos)),
            },
            "started": started,
            "ended": now(),
        },
        folder,
    )


def write_record(record: RunRecord) -> None:
    """Write run.json at once or not at all."""
    file = record.folder / RECORD
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(record.data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(temporary, file)


def _status(results: list[dict[str, Any]]) -> str:
    """Of a run that searches for nothing: it is asked for every candidate, and fails if one of them does."""
    candidates = [each for result in results for each in result["candidates"]]
    if not all(each["status"] == "succeeded" for each in candidates):
        return "failed"
    return "goals_not_met" if any(each["goals_met"] is False for each in candidates) else "succeeded"


def identifier(step: Step, state: RunState) -> str:
    """What run.json calls a model: the beginning of its key."""
    return state.keys[step][:12]


def _result(plan: Plan, branch: Branch, state: RunState, store: ArtifactStore) -> dict[str, Any]:
    candidates = [_candidate(each, branch, state, store) for each in branch.candidates]
    return {
        "accelerator": branch.accelerator.model_dump(),
        "system": plan.config.target,
        "input_model": {
            "id": identifier(branch.model, state),
            "size_bytes": _size(branch.model, state, store),
            "metrics": _input_metrics(branch, branch.candidates, state, store),
        },
        "candidates": candidates,
        "best": candidates[-1]["id"] if candidates[-1]["status"] == "succeeded" else None,
    }


def _candidate(candidate: Candidate, branch: Branch, state: RunState, store: ArtifactStore) -> dict[str, Any]:
    own = candidate.steps()
    faults = {step: state.faults[step] for step in own if step in state.faults and state.faults[step].type != "Blocked"}
    whole = all(step in state.manifests for step in own)
    errors = [{"step": step.name, **fault.model_dump(exclude={"traceback"})} for step, fault in faults.items()]
    metrics = _metrics(candidate.figures, _candidate_figures(candidate, branch, state, store))
    before = _input_metrics(branch, [candidate], state, store)
    return {
        "id": identifier(candidate.model, state),
        "status": "succeeded" if whole else "failed",
        "error": errors[0] if errors else None,
        "steps": [_step(step, state) for step in own],
        "size_bytes": _size(candidate.model, state, store),
        "metrics": metrics,
        "goals_met": _goals_met(candidate.figures, metrics, before),
        "pareto": whole,
    }


def _goals_met(figures: tuple[Figure, ...], metrics: Mapping[str, Any], before: Mapping[str, Any]) -> bool | None:
    """Whether every goal is met; None if there is none. A figure that could not be found meets no goal."""
    met = [
        figure.key in metrics
        and figure.goal.met(
            metrics[figure.key]["value"], before.get(figure.key, {}).get("value"), figure.higher_is_better
        )
        for figure in figures
        if figure.goal is not None
    ]
    return all(met) if met else None


def _step(step: Step, state: RunState) -> dict[str, Any]:
    manifest = state.manifests.get(step)
    cached = step in state.cached
    return {
        "name": step.name,
        "type": step.component,
        "config": step.config.model_dump(mode="json"),
        "key": state.keys[step],
        "cached": cached,
        "seconds": None if manifest is None else manifest.seconds,
        "peak_rss_bytes": None if manifest is None else manifest.peak_rss_bytes,
        "attempts": 0 if cached else 1,
    }


def _size(step: Step, state: RunState, store: ArtifactStore) -> int | None:
    return store.read_model(state.keys[step]).size_bytes if step in state.manifests else None


def _input_metrics(
    branch: Branch, candidates: Sequence[Candidate], state: RunState, store: ArtifactStore
) -> dict[str, Any]:
    """The input model's figures that these candidates are compared by.

    It is timed with every candidate anew; of several timings the last stands here.
    """
    found: dict[str, dict[str, Any]] = {"size": _bytes(_size(branch.model, state, store), None)}
    for candidate in candidates:
        for step in candidate.input_evaluations:
            found |= state.manifests[step].metrics if step in state.manifests else {}
        for step in candidate.measurements:
            found |= state.manifests[step].report["baseline"] if step in state.manifests else {}
    figures = {figure.key: figure for candidate in candidates for figure in candidate.figures}
    return _metrics(tuple(figures.values()), found)


def _candidate_figures(
    candidate: Candidate, branch: Branch, state: RunState, store: ArtifactStore
) -> dict[str, dict[str, Any]]:
    size = _size(candidate.model, state, store)
    found: dict[str, dict[str, Any]] = {"size": _bytes(size, _size(branch.model, state, store))}
    for step in (*candidate.evaluations, *candidate.measurements):
        found |= state.manifests[step].metrics if step in state.manifests else {}
    return found


def _bytes(size: int | None, baseline: int | None) -> dict[str, Any]:
    difference = None
    if size is not None and baseline is not None:
        difference = {"value": size - baseline, "low": None, "high": None}
    return {
        "value": size,
        "low": None,
        "high": None,
        "n": None,
        "unit": "bytes",
        "higher_is_better": False,
        "difference": difference,
    }


def _metrics(figures: tuple[Figure, ...], found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The wanted figures that were found, in the order of the config."""
    metrics = {}
    for figure in figures:
        numbers = found.get("size" if figure.kind == "size" else figure.key)
        if numbers is not None and numbers["value"] is not None:
            metrics[figure.key] = {
                **numbers,
                "higher_is_better": figure.higher_is_better,
                "priority": figure.priority,
                **({} if figure.goal is None else {"goal": figure.goal.model_dump()}),
            }
    return metrics

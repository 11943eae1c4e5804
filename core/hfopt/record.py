"""run.json: what a run did and found, in the shape of the public contract (docs/reference/run-json.md)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import machine
from hfopt.config.resolve import Figure
from hfopt.plan import Branch, Plan, Step
from hfopt.plugins import Plugins, versions
from hfopt.store import ArtifactStore, now
from hfopt.version import __version__

if TYPE_CHECKING:
    from hfopt.engine import Progressed


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    :param data: run.json
    :param folder: where run.json and best/ lie
    """

    data: Mapping[str, Any]
    folder: Path

    @property
    def status(self) -> str:
        """succeeded, failed or interrupted."""
        return str(self.data["status"])

    @property
    def results(self) -> list[dict[str, Any]]:
        """One entry per accelerator."""
        return list(self.data["results"])

    def winners(self, plan: Plan, state: Progressed) -> list[Step]:
        """The steps whose models are best."""
        best = {result["best"] for result in self.results}
        return [branch.passes[-1] for branch in plan.branches if _identity(branch, state) in best]


def make_record(
    plan: Plan, state: Progressed, store: ArtifactStore, plugins: Plugins, folder: Path, started: str
) -> RunRecord:
    """The record of a run that has ended, however it ended."""
    results = [_result(plan, branch, state, store) for branch in plan.branches]
    if state.interrupted:
        status = "interrupted"
    else:
        status = "succeeded" if all(result["best"] for result in results) else "failed"
    return RunRecord(
        {
            "schema": 1,
            "hfopt": __version__,
            "status": status,
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
    file = record.folder / "run.json"
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(record.data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(temporary, file)


def _identity(branch: Branch, state: Progressed) -> str:
    return state.keys[branch.passes[-1]][:12]


def _result(plan: Plan, branch: Branch, state: Progressed, store: ArtifactStore) -> dict[str, Any]:
    candidate = _candidate(plan, branch, state, store)
    return {
        "accelerator": branch.accelerator.model_dump(),
        "system": plan.config.target,
        "input_model": {
            "id": state.keys[branch.model][:12],
            "size_bytes": _size(branch.model, state, store),
            "metrics": _metrics(plan.config.figures, _input_figures(branch, state, store)),
        },
        "candidates": [candidate],
        "best": candidate["id"] if candidate["status"] == "succeeded" else None,
    }


def _candidate(plan: Plan, branch: Branch, state: Progressed, store: ArtifactStore) -> dict[str, Any]:
    last = branch.passes[-1]
    own = list(
        dict.fromkeys(step for end in (last, *branch.evaluations, *branch.measurements) for step in end.with_parents())
    )
    faults = {step: state.faults[step] for step in own if step in state.faults and state.faults[step].type != "Blocked"}
    whole = all(step in state.manifests for step in own)
    errors = [{"step": step.name, **fault.model_dump(exclude={"traceback"})} for step, fault in faults.items()]
    return {
        "id": _identity(branch, state),
        "status": "succeeded" if whole else "failed",
        "error": errors[0] if errors else None,
        "steps": [_step(step, state) for step in own],
        "size_bytes": _size(last, state, store),
        "metrics": _metrics(plan.config.figures, _candidate_figures(branch, state, store)),
        "goals_met": None,
        "pareto": whole,
    }


def _step(step: Step, state: Progressed) -> dict[str, Any]:
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


def _size(step: Step, state: Progressed, store: ArtifactStore) -> int | None:
    return store.read_model(state.keys[step]).size_bytes if step in state.manifests else None


def _input_figures(branch: Branch, state: Progressed, store: ArtifactStore) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"size": _bytes(_size(branch.model, state, store), None)}
    for step in branch.input_evaluations:
        found |= state.manifests[step].metrics if step in state.manifests else {}
    for step in branch.measurements:
        found |= state.manifests[step].report["baseline"] if step in state.manifests else {}
    return found


def _candidate_figures(branch: Branch, state: Progressed, store: ArtifactStore) -> dict[str, dict[str, Any]]:
    size = _size(branch.passes[-1], state, store)
    found: dict[str, dict[str, Any]] = {"size": _bytes(size, _size(branch.model, state, store))}
    for step in (*branch.evaluations, *branch.measurements):
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
            override = {} if figure.higher_is_better is None else {"higher_is_better": figure.higher_is_better}
            metrics[figure.key] = {**numbers, **override, "priority": figure.priority}
    return metrics

"""run.json's entries, typed. docs/reference/run-json.md says what each key means."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Figures = dict[str, dict[str, Any]]
"""Metrics by key, as run.json has them: `hfopt.api.metrics.Metric` with its priority, and its goal if there is one."""


class StepRecord(TypedDict):
    """One of the steps that a candidate took."""

    name: str
    type: str
    config: dict[str, Any]
    key: str
    cached: bool
    seconds: float | None
    peak_rss_bytes: int | None
    attempts: int


class ModelRecord(TypedDict):
    """The input model."""

    id: str
    size_bytes: int | None
    metrics: Figures


class CandidateRecord(ModelRecord):
    """A model that was measured, or should have been."""

    status: Literal["succeeded", "failed", "dropped"]
    error: dict[str, Any] | None
    steps: list[StepRecord]
    goals_met: bool | None
    goals_missed_by: float | None
    pareto: bool
    choices: dict[str, Any]


class FinalRecord(TypedDict):
    """Two candidates of a search, timed against each other at its end."""

    incumbent: str
    challenger: str
    metric: str
    speedup: dict[str, Any] | None


class ResultRecord(TypedDict):
    """What was found for one accelerator."""

    accelerator: dict[str, str]
    system: str
    input_model: ModelRecord
    candidates: list[CandidateRecord]
    finals: list[FinalRecord]
    chosen: Figures
    best: str | None

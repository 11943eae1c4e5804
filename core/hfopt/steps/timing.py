"""What latency and throughput metrics ask for. Light: read while validating."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hfopt.api.config import Config

FIGURES: dict[str, float | str] = {
    "avg": "mean",
    "max": "max",
    "min": "min",
    "p50": 0.50,
    "p75": 0.75,
    "p90": 0.90,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
}
"""Sub types of both: a reduction, or a quantile."""

TimedKind = Literal["latency", "throughput"]
TIMED_KINDS = ("latency", "throughput")


class TimingConfig(Config):
    """``metric_config`` of a latency or throughput metric."""

    warmup_num: int = Field(20, ge=0, description="Runs of each model that are not counted.")
    repeat_test_num: int = Field(256, ge=1, description="Timed runs of each model.")
    sleep_num: float = Field(0, ge=0, description="Seconds of rest before each timed run.")


class TimedFigure(Config):
    """One figure to take from the timings."""

    kind: TimedKind = Field(description="Milliseconds a call, or rows a second.")
    name: str = Field(description="The sub type.")


class MeasureConfig(Config):
    """What a measure step is told."""

    figures: dict[str, TimedFigure] = Field(description="By the figure's key in run.json.")
    timing: TimingConfig = Field(TimingConfig(), description="How often and how.")

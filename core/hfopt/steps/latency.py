"""What a latency metric asks for. Light: read while validating."""

from __future__ import annotations

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
"""Sub types of a latency metric: a NumPy reduction, or a quantile."""


class LatencyConfig(Config):
    """``metric_config`` of a latency metric."""

    warmup_num: int = Field(20, ge=0, description="Runs of each model that are not counted.")
    repeat_test_num: int = Field(256, ge=1, description="Timed runs of each model.")
    sleep_num: float = Field(0, ge=0, description="Seconds of rest before each timed run.")


class MeasureConfig(Config):
    """What a measure step is told."""

    figures: dict[str, str] = Field(description="Sub type by the figure's key in run.json.")
    timing: LatencyConfig = Field(LatencyConfig(), description="How often and how.")

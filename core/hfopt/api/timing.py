"""Timing: what latency and throughput metrics ask for, and what two models are timed with. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from hfopt.api.config import Config
from hfopt.api.model import ModelHandle
from hfopt.base.errors import StepFailed

TIMED_ROWS = 64
"""How many rows are timed in turn: spread evenly over the data, each at its own length."""

ROUND_RUNS = 16
"""Of each model in a round (`hfopt.api.blocks`), where the user does not say."""

FIGURES: dict[str, float | str] = {
    **{"avg": "mean", "max": "max", "min": "min"},
    **{"p50": 0.50, "p75": 0.75, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999},
}
"""Sub types of both: a reduction, or a quantile."""

DECODE = "tpot"
LATENCY_FIGURES = FIGURES | {"ttft": "mean", DECODE: "mean"}
"""Those of latency: the time to the first token too, which is that of a row, and the time per token after it."""

TimedKind = Literal["latency", "throughput"]
TIMED_KINDS = ("latency", "throughput")


class TimingConfig(Config):
    """``metric_config`` of a latency or throughput metric."""

    warmup_num: int = Field(20, ge=0, description="Runs of each model that are not counted.")
    repeat_test_num: int | None = Field(
        None,
        ge=1,
        description="Timed runs of each model; null: 96 to 256, until the ratio is known to ±2 %, or can't be.",
    )
    sleep_num: float = Field(0, ge=0, description="Seconds of rest before each timed run.")


class TimedFigure(Config):
    """One figure to take from the timings."""

    kind: TimedKind = Field(description="Milliseconds a call, or rows a second.")
    name: str = Field(description="The sub type.")


class MeasureConfig(Config):
    """What a measure step is told."""

    figures: dict[str, TimedFigure] = Field(description="By the figure's key in run.json.")
    timing: TimingConfig = Field(TimingConfig(), description="How often and how.")
    settings: dict[str, dict[str, Any]] = Field({}, description="Inference settings by type of model.")
    decides: bool = Field(False, description="Whether one of the two is chosen by it: then it takes its time.")


@dataclass(frozen=True)
class Timed:
    """A model and how to run it.

    :param settings: as `ModelLoader.open` takes them, ``threads`` among them
    :param name: what it is called if it can't be timed; empty: by its type
    :param next_token: whether one token after each row is timed, instead of the row
    """

    model: ModelHandle
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    next_token: bool = False


class CannotTime(StepFailed):
    """A model can't be opened or run, or its process died.

    :param position: 0 if it is the first of the two models, 1 if it is the second
    """

    def __init__(self, message: str, *, hint: str | None = None, position: int) -> None:
        super().__init__(message, hint=hint)
        self.position = position


def spread(total: int, wanted: int) -> list[int]:
    """At most `wanted` positions, evenly over `total`."""
    count = min(total, wanted)
    return [position * total // count for position in range(count)]


def mixed(sizes: Sequence[int]) -> list[int]:
    """An order in which every 16 neighbours are of all sizes: each round then times about the same work.

    :param sizes: of each row
    :return: their positions
    """
    ranked = sorted(range(len(sizes)), key=sizes.__getitem__)
    step = -(-len(ranked) // ROUND_RUNS)
    return [position for start in range(step) for position in ranked[start::step]]

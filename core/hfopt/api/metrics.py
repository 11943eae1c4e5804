"""Metrics with per-row outcomes: what makes intervals and paired comparison possible. And a metric's result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from hfopt.api.arrays import Array, Floats
from hfopt.api.config import Config


class Estimate(BaseModel):
    """A number and its 95 % interval; without ends where nothing tells how sure it is."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None = None
    high: float | None = None


class Metric(Estimate):
    """What a model was found to be, as run.json has it.

    ``n`` counts rows or runs. ``difference`` is to the input model, on the same rows or in the same minutes.
    ``speedup`` is how many times as fast as the input model it is, for what is timed. ``cpus_left`` is there if the
    machine was busy: how many CPUs other processes left, on average.
    """

    n: int | None = None
    unit: str = ""
    higher_is_better: bool = True
    difference: Estimate | None = None
    speedup: Estimate | None = Field(None, exclude_if=lambda speedup: speedup is None)
    cpus_left: float | None = Field(None, exclude_if=lambda cpus: cpus is None)


class Statistic(ABC):
    """A metric as a function of sums over rows.

    ``proportion`` says that `rows` is [n, 1] of 0 and 1 and the value is their mean, so that Wilson's interval applies.
    """

    higher_is_better: bool = True
    proportion: bool = False
    unit: str = ""

    @abstractmethod
    def rows(self, predictions: Array, references: Array) -> Floats:
        """What each row adds: [n, k].

        :raises PreconditionFailed: predictions and references don't suit this metric
        """

    @abstractmethod
    def value(self, sums: Floats, n: int) -> Floats:
        """The metric from sums over n rows.

        :param sums: [..., k], one per resample
        :return: [...]
        """


class WholeStatistic(ABC):
    """A metric that needs all rows at once, as one of ranks does.

    ``resamples`` says for how many bootstrap resamples it is computed again; with none it has no interval.
    """

    higher_is_better: bool = True
    unit: str = ""
    resamples: int = 1_000
    of_rows: bool = True
    """Whether its count is that of rows; what a user's function says of a model has none."""

    @abstractmethod
    def value(self, predictions: Array, references: Array) -> float:
        """The metric; not a number where these rows don't define it.

        :param predictions: one for each row, [n, ...]
        :param references: the labels of the same rows
        :raises PreconditionFailed: predictions and references don't suit this metric
        """


class MetricBackend(ABC):
    """A family of metrics, such as ``huggingface_metrics``."""

    Config: ClassVar[type[Config]]
    """The options of one sub type: ``metric_config``."""

    @abstractmethod
    def statistic(self, name: str, config: Any) -> Statistic | WholeStatistic:
        """The metric of a sub type. Called while validating: imports nothing heavy.

        :raises UnknownName: with the names that this backend has
        :raises ValueError: the options don't fit the metric
        """

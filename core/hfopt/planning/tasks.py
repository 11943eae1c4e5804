"""What the core's own steps are told. Measure steps are told what `hfopt.api.timing` has."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hfopt.api.config import Config


class MetricRequest(Config):
    """One figure to compute."""

    key: str = Field(description="Its key in run.json.")
    backend: str = Field(description="plugin:Name of the metric backend.")
    name: str = Field(description="The figure's name in the backend.")
    options: dict[str, Any] = Field(description="Its options.")


class PredictConfig(Config):
    """What a predict step is told."""

    settings: dict[str, dict[str, Any]] = Field({}, description="Inference settings by type of model.")
    share: int = Field(1, ge=1, description="One in so many batches is predicted: `measuring.looks.sample`.")


class ScoreConfig(Config):
    """What a score step is told.

    With ``least`` it is a look: it only tells which figures are lost, by predictions of a share of the rows.
    """

    metrics: tuple[MetricRequest, ...] = Field(description="The figures wanted.")
    share: int = Field(1, description="Of a look: one in so many batches has been predicted.")
    least: dict[str, float] = Field({}, description="Of a look: a figure is lost that is less than this on all rows.")

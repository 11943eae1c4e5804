"""The metric backend ``custom``: figures that functions of the user's compute."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from hfopt import Config, MetricBackend, PreconditionFailed, Statistic, WholeStatistic
from hfopt.api.arrays import Array
from hfopt.api.text import did_you_mean
from hfopt_data_containers.functions import Functions, figures


class Custom(MetricBackend):
    """A figure that evaluate_func or metric_func of a metric of type custom computes."""

    Config: ClassVar[type[Config]] = Functions

    def statistic(self, name: str, config: Any) -> Statistic | WholeStatistic:
        if config.evaluate_func is None and config.metric_func is None:
            raise ValueError("evaluate_func or metric_func is required: a custom metric is what a function returns")
        return CustomFigure(name, config)


class CustomFigure(WholeStatistic):
    """One of the figures that a function returns; without an interval, as nothing is known of it."""

    resamples = 0
    higher_is_better = False
    of_rows = False

    def __init__(self, name: str, config: Functions) -> None:
        self._name, self._config = name, config

    def value(self, predictions: Array, references: Array) -> float:
        judged = self._config.evaluate_func is not None
        found = json.loads(str(predictions[0]) if judged else self._computed(predictions, references))
        if not isinstance(found, dict):
            return float(found)
        if self._name not in found:
            what = self._config.named("evaluate_func" if judged else "metric_func")
            fact = f"{what} returned {', '.join(found) or 'nothing'}, and no {self._name!r}"
            raise PreconditionFailed(fact, hint=did_you_mean(self._name, found))
        return float(found[self._name])

    def _computed(self, logits: Array, targets: Array) -> str:
        import torch

        config = self._config
        scores, labels = torch.from_numpy(logits), torch.from_numpy(targets)
        said = scores.argmax(dim=1) if logits.ndim == 2 and logits.dtype.kind == "f" else scores
        if config.post_processing_func is not None:
            said = config.call("post_processing_func", scores)
        return figures(config.call("metric_func", (said, scores), labels), config.named("metric_func"))

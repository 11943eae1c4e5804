"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_metric_backends() -> list[Component]:
    return [
        Component("torch_metrics", "hfopt_torch_metrics.backend:TorchMetrics", "accuracy_score, f1_score and others")
    ]

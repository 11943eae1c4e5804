"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_metric_backends() -> list[Component]:
    return [
        Component(
            "huggingface_metrics", "hfopt_hf_metrics.backend:HuggingfaceMetrics", "accuracy, f1 and others, no hub"
        ),
    ]

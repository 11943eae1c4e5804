"""What a worker answers without making an artifact."""

from __future__ import annotations

import dataclasses
from typing import Any

from hfopt.api.model import ModelLoader
from hfopt.api.resources import Resource
from hfopt.worker.context import StepContext


def resolve(step: StepContext) -> dict[str, Any]:
    """What a reference means now."""
    resource: Resource = step.component("hfopt_resources")
    return dataclasses.asdict(resource.resolve(step.resource_context))


def probe(step: StepContext) -> dict[str, Any]:
    """Why models of a type can't run on an accelerator; null if they can."""
    loader: type[ModelLoader] = step.plugins.find("hfopt_model_loaders", step.request.component).load()
    return {"reason": loader.unavailable(step.request.accelerator)}

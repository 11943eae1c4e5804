"""What a worker answers without making an artifact."""

from __future__ import annotations

import dataclasses
from typing import Any

from hfopt.api.model import ModelLoader
from hfopt.api.resources import Resource
from hfopt.steps.outcome import Bench


def resolve(bench: Bench) -> dict[str, Any]:
    """What a reference means now."""
    resource: Resource = bench.component("hfopt_resources")
    return dataclasses.asdict(resource.resolve(bench.resource_context))


def probe(bench: Bench) -> dict[str, Any]:
    """Why models of a type can't run on an accelerator; null if they can."""
    loader: type[ModelLoader] = bench.plugins.find("hfopt_model_loaders", bench.request.component).load()
    return {"reason": loader.unavailable(bench.request.accelerator)}

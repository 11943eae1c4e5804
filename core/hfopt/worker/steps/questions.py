"""What a worker answers without making an artifact."""

from __future__ import annotations

import dataclasses
from typing import Any

from hfopt.api.model import ModelLoader
from hfopt.api.resources import Resource
from hfopt.base.processes import credentials
from hfopt.base.secrets import redacted
from hfopt.discovery.versions import Environment
from hfopt.measuring import machine as this_machine
from hfopt.worker.context import StepContext


def resolve(step: StepContext) -> dict[str, Any]:
    """What a reference means now."""
    resource: Resource = step.component("hfopt_resources")
    with credentials():
        found = resource.resolve(step.resource_context())
    return {**dataclasses.asdict(found), "identity": redacted(found.identity)}


def probe(step: StepContext) -> dict[str, Any]:
    """Why models of a type can't run on an accelerator; null if they can."""
    loader: type[ModelLoader] = step.plugins.find("hfopt_model_loaders", step.request.component).load()
    return {"reason": loader.unavailable(step.request.accelerator)}


def versions(step: StepContext) -> dict[str, Any]:
    """Which versions each of some components depends on here, by its name.

    The request's config has the components: declaring hook by ``plugin:Name``.
    """
    found = {name: step.plugins.find(hook, name) for name, hook in step.request.config.items()}
    here = Environment()
    return {name: here.versions_of(each) for name, each in found.items()}


def load(step: StepContext) -> dict[str, Any]:
    """How many CPUs other processes leave here; null if that is not known."""
    return {"cpus_left": this_machine.cpus_left()}


def machine(step: StepContext) -> dict[str, Any]:
    """What a timing depends on: CPU model and flags, threads."""
    return this_machine.describe()

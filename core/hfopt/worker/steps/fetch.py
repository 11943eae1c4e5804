"""Step ``fetch``: a resource as files, or the input model described."""

from __future__ import annotations

from hfopt.api.model import FetchContext, ModelLoader
from hfopt.api.resources import Resource
from hfopt.base.processes import credentials
from hfopt.worker.context import FETCHED, Outcome, StepContext
from hfopt.worker.forks import preload


def run(step: StepContext) -> Outcome:
    if step.request.pin is not None:
        resource: Resource = step.component("hfopt_resources")
        folder = step.folder / FETCHED
        folder.mkdir()
        with credentials():
            report = resource.fetch(step.request.pin, folder, step.resource_context())
        return Outcome(report=report)
    preload(step.plugins, step.request.component)
    loader: ModelLoader = step.component("hfopt_model_loaders")
    return Outcome(model=loader.fetch(FetchContext(step.folder, step.progress)))

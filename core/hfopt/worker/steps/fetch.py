"""Step ``fetch``: a resource as files, or the input model described."""

from __future__ import annotations

from shutil import rmtree

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
        context = step.resource_context()
        with credentials():
            report = resource.fetch(step.request.pin, folder, context)
        if context.unfinished is not None:
            rmtree(context.unfinished, ignore_errors=True)
        return Outcome(report=report)
    preload(step.plugins, step.request.component)
    loader: ModelLoader = step.component("hfopt_model_loaders")
    return Outcome(model=loader.fetch(FetchContext(step.folder, step.progress)))

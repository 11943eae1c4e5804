"""Step ``fetch``: a resource as files, or the input model described."""

from __future__ import annotations

from hfopt.api.model import FetchContext, ModelLoader
from hfopt.api.resources import Resource
from hfopt.steps.outcome import FETCHED, Bench, Outcome


def run(bench: Bench) -> Outcome:
    if bench.request.pin is not None:
        resource: Resource = bench.component("hfopt_resources")
        folder = bench.folder / FETCHED
        folder.mkdir()
        return Outcome(report=resource.fetch(bench.request.pin, folder, bench.resource_context))
    loader: ModelLoader = bench.component("hfopt_model_loaders")
    return Outcome(model=loader.fetch(FetchContext(bench.folder, bench.progress)))

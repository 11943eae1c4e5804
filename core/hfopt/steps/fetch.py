"""Step ``fetch``: the input model, described."""

from __future__ import annotations

from hfopt.api.model import FetchContext, ModelLoader
from hfopt.steps.outcome import Bench, Outcome


def run(bench: Bench) -> Outcome:
    loader: ModelLoader = bench.component("hfopt_model_loaders")
    return Outcome(model=loader.fetch(FetchContext(bench.folder, bench.progress)))

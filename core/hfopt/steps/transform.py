"""Step ``pass``: one model into another."""

from __future__ import annotations

from hfopt.api.passes import Pass, PassContext
from hfopt.errors import PreconditionFailed
from hfopt.parity import run_compared
from hfopt.steps.outcome import Bench, Outcome


def run(bench: Bench) -> Outcome:
    work: Pass = bench.component("hfopt_passes")
    model = bench.model("model")
    if model.type not in work.accepts:
        raise PreconditionFailed(f"takes {' or '.join(sorted(work.accepts))}, and got {model.type}")
    work.requires(model)
    names = [role.removeprefix("data.") for role in bench.request.inputs if role.startswith("data.")]
    context = PassContext(
        folder=bench.folder,
        accelerator=bench.request.accelerator,
        threads=bench.request.threads,
        seed=bench.request.seed,
        data={name: bench.data(f"data.{name}") for name in names},
        open=bench.open,
        compare=bench.stopwatch().compare,
        progress=bench.progress,
    )
    result = run_compared(work, model, context, bench.request.parity)
    return Outcome(model=result.model, report=result.report)

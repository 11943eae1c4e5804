"""Step ``pass``: one model into another."""

from __future__ import annotations

from hfopt.api.passes import Pass, PassContext
from hfopt.base.errors import PreconditionFailed
from hfopt.measuring.parity import run_compared
from hfopt.worker.context import Outcome, StepContext


def run(step: StepContext) -> Outcome:
    work: Pass = step.component("hfopt_passes")
    model = step.model("model")
    if model.type not in work.accepts:
        raise PreconditionFailed(f"takes {' or '.join(sorted(work.accepts))}, and got {model.type}")
    work.requires(model)
    names = [role.removeprefix("data.") for role in step.request.inputs if role.startswith("data.")]
    context = PassContext(
        folder=step.folder,
        accelerator=step.request.accelerator,
        threads=step.request.threads,
        seed=step.request.seed,
        data={name: step.data(f"data.{name}") for name in names},
        open=step.open,
        compare=step.stopwatch().compare,
        progress=step.progress,
    )
    result = run_compared(work, model, context, step.request.parity)
    return Outcome(model=result.model, report=result.report)

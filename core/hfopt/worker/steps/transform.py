"""Step ``pass``: one model into another."""

from __future__ import annotations

from hfopt.api.model import ModelHandle
from hfopt.api.passes import Pass, PassContext, PassResult
from hfopt.base.errors import PluginError, PreconditionFailed
from hfopt.measuring.parity import compared
from hfopt.worker.context import Outcome, StepContext


def run(step: StepContext) -> Outcome:
    work: Pass = step.component("hfopt_passes")
    model = step.model("model")
    if model.type not in work.accepts:
        raise PreconditionFailed(f"takes {' or '.join(sorted(work.accepts))}, and got {model.type}")
    work.requires(model)
    context = PassContext(
        folder=step.folder,
        accelerator=step.request.accelerator,
        threads=step.request.threads,
        seed=step.request.seed,
        data={role.removeprefix("data."): step.data(role) for role in step.request.inputs if role.startswith("data.")},
        open=step.open,
        compare=step.stopwatch().compare,
        progress=step.progress,
    )
    result = _checked(step, work, model, work.run(model, context))
    result = compared(result, model, context, step.request.parity)
    return Outcome(model=result.model, report=result.report)


def _checked(step: StepContext, work: Pass, model: ModelHandle, result: object) -> PassResult:
    """What a pass returned, if that is what passes return.

    :raises PluginError: it is not, with what is wrong
    """
    name = step.request.component
    if not isinstance(result, PassResult):
        raise PluginError(f"{name} must return a PassResult, and returned {_described(result)}")
    made: object = result.model
    if not isinstance(made, ModelHandle):
        raise PluginError(f"{name} must return a PassResult with a ModelHandle, and its model is {_described(made)}")
    wanted = work.produces or model.type
    if made.type != wanted:
        raise PluginError(f"{name} must make a model of type {wanted}, and made one of type {made.type}")
    for file in made.every_file:
        if not file.exists():
            raise PluginError(f"{name} returned a model with a file that it did not write: {file}")
    return result


def _described(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

"""Step ``pass``: one model into another; of a composite model each part, unless the pass takes the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from hfopt.api.model import COMPOSITE, ModelHandle
from hfopt.api.parity import Parity
from hfopt.api.passes import Pass, PassContext, PassResult
from hfopt.base.errors import HfoptError, PluginError, PreconditionFailed
from hfopt.measuring.parity import compared
from hfopt.worker.context import Outcome, StepContext
from hfopt.worker.steps.measure import machine_load


def run(step: StepContext) -> Outcome:
    work: Pass = step.component("hfopt_passes")
    left: list[float] = []
    context = PassContext(
        folder=step.folder,
        accelerator=step.request.accelerator,
        threads=step.request.threads,
        seed=step.request.seed,
        data={role.removeprefix("data."): step.data(role) for role in step.request.inputs if role.startswith("data.")},
        open=step.open,
        compare=partial(step.stopwatch().compare, left=left.append),
        progress=step.progress,
    )
    result = applied(work, step.request.component, step.model("model"), context, step.request.parity)
    load = machine_load(left, step.request)
    busy = load.pop("warning", None)
    return Outcome(model=result.model, report=result.with_report(load, busy).report)


def applied(work: Pass, name: str, model: ModelHandle, context: PassContext, parity: Parity | None) -> PassResult:
    """What a pass makes of a model, or of each of its components, after each has been compared with the one before.

    :param name: the pass's, for messages
    :param parity: None: don't compare
    """
    if not model.components or COMPOSITE in work.accepts:
        return _one(work, name, model, context, parity)
    parts = {}
    for place, part in model.components.items():
        folder = context.folder / place
        folder.mkdir()
        try:
            parts[place] = _one(work, name, part, replace(context, folder=folder, name=place), parity)
        except HfoptError as error:
            error.message = f"{place}: {error.message}"
            raise
    made = {place: each.model for place, each in parts.items()}
    whole = model.with_(type=COMPOSITE, path=context.folder, files=(), config={}, components=made)
    report = _of_parts({place: each.report for place, each in parts.items()})
    return work.assembled(PassResult(whole, report), model, context)


def _of_parts(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One report of a composite model: sentences say of which part they are."""
    told: dict[str, Any] = {"components": dict(reports)}
    for key in ("summary", "warning"):
        if said := "; ".join(f"{name}: {each[key]}" for name, each in reports.items() if key in each):
            told[key] = said
    return told


def _one(work: Pass, name: str, model: ModelHandle, context: PassContext, parity: Parity | None) -> PassResult:
    """What a pass makes of one model, after it has been compared with that model."""
    if model.type not in work.accepts:
        raise PreconditionFailed(f"takes {' or '.join(sorted(work.accepts))}, and got {model.type}")
    work.requires(model)
    return compared(_checked(work, name, model, work.run(model, context)), model, context, parity)


def _checked(work: Pass, name: str, model: ModelHandle, result: object) -> PassResult:
    """What a pass returned, if that is what passes return.

    :raises PluginError: it is not, with what is wrong
    """
    if not isinstance(result, PassResult):
        raise PluginError(f"{name} must return a PassResult, and returned {_described(result)}")
    made: object = result.model
    if not isinstance(made, ModelHandle):
        raise PluginError(f"{name} must return a PassResult with a ModelHandle, and its model is {_described(made)}")
    wanted = work.produces or model.type
    parts = {part.type for part in made.components.values()}
    if made.type != wanted and (made.type, parts) != (COMPOSITE, {wanted}):
        raise PluginError(f"{name} must make a model of type {wanted}, and made one of type {made.type}")
    for file in made.every_file:
        if not file.exists():
            raise PluginError(f"{name} returned a model with a file that it did not write: {file}")
    return result


def _described(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

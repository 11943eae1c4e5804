"""A pass's model compared with the one that the pass got."""

from __future__ import annotations

from hfopt.api.model import ModelHandle, TensorSpec
from hfopt.api.parity import Parity, compare, describe, record
from hfopt.api.passes import PassContext, PassResult
from hfopt.base.errors import HfoptError, PreconditionFailed


def compared(result: PassResult, model: ModelHandle, context: PassContext, parity: Parity | None) -> PassResult:
    """What a pass made, after its model has been compared with the one that the pass got.

    Where the model that it got does not run the made-up examples, there is nothing to compare with: a warning says so.

    :param parity: None: don't compare
    :raises PreconditionFailed: the new model can't be opened or run
    :raises HfoptError: they differ, and the user has not allowed it
    """
    if parity is None or result.model == model:
        return result
    context.progress("parity", 0, None)
    try:
        with context.open(model, {"brief": True}) as source:
            examples = record(source, _shapes_of_both(model, result.model))
    except PreconditionFailed as error:
        said = f"not compared with the model before, which can't run the examples: {error.message}"
        return result.with_report({}, said)
    try:
        with context.open(result.model, {"brief": True}) as made:
            report = compare(examples, made, relative=parity.relative or result.tolerance, absolute=parity.absolute)
    except PreconditionFailed as error:
        said = f"the model that this pass made can't be run: {error.message}"
        raise PreconditionFailed(said, hint=error.hint) from error
    if report["agree"]:
        return result.with_report({"parity": report})
    fact = f"the new model computes something else: {describe(report)}"
    if parity.on_difference == "error":
        hint = 'write "parity": {"on_difference": "warn"} beside the pass\'s type to keep it all the same'
        raise HfoptError(fact, hint=hint)
    return result.with_report({"parity": report}, fact)


def _shapes_of_both(before: ModelHandle, after: ModelHandle) -> list[TensorSpec]:
    """The inputs of the model before, of shapes that the one after takes too: it may have fixed some axes."""
    axes = {spec.name: spec.axes for spec in after.inputs}
    return [spec.model_copy(update={"axes": axes.get(spec.name, spec.axes)}) for spec in before.inputs]

"""One run of a new model, so that a model which ONNX Runtime refuses fails in the pass that made it."""

from __future__ import annotations

from hfopt import ModelHandle, PassContext, PreconditionFailed
from hfopt.api.example import BATCH_AXIS, example_feeds
from hfopt_onnx_model.graph import load
from hfopt_onnx_model.precision import computes_in_half

EXAMPLE_BATCH, EXAMPLE_SIZE = 1, 8


def try_out(made: ModelHandle, source: ModelHandle, context: PassContext) -> None:
    """Open a model and run one random example.

    :param source: what it was made of; if that does not run the example either, the example is to blame
    :raises PreconditionFailed: the model can't be opened or run, with ONNX Runtime's reason
    """
    refusal = _refusal(made, context)
    if refusal is None or _refusal(source, context) is not None:
        return
    halved = computes_in_half(load(source.path, weights=False))
    raise PreconditionFailed(
        f"the model that this pass made can't be run: {refusal.message}",
        hint="give this pass the float32 model: most quantized operators have no float16 form" if halved else None,
    ) from refusal


def _refusal(model: ModelHandle, context: PassContext) -> PreconditionFailed | None:
    """Why a model does not run the example."""
    axes = {axis for spec in model.inputs for axis in spec.axes if isinstance(axis, str)}
    sizes = {axis: EXAMPLE_BATCH if axis == BATCH_AXIS else EXAMPLE_SIZE for axis in axes}
    try:
        with context.open(model, {}) as session:
            session.run(example_feeds(model.inputs, sizes))
    except PreconditionFailed as error:
        return error
    return None

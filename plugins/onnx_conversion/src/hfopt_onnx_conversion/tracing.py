"""Tracing a module with TorchScript into an ONNX file.

The exporter orders a traced module's inputs by the signature of its forward, not by the names it is given, and swaps
them silently; so what is traced takes its inputs by position and calls the model by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Session, TensorSpec
from hfopt.api.example import BATCH_AXIS, PAST_AXIS, example_feeds
from hfopt_onnx_model.graph import outline

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from onnx import ModelProto

TRACED_BATCH, TRACED_SIZE = 2, 16
PROBED_BATCH, PROBED_SIZE = 3, 11
"""Sizes of dynamic axes: every one differs from the traced one, and none is 1, which a tracer takes for a constant."""
TOKEN_AXES = ("sequence_length", "decoder_sequence_length")
"""With which keys and values of earlier tokens grow."""


def trace(
    source: Session,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int,
    folder: Path,
    apart: Collection[str] = (),
) -> ModelProto:
    """The graph of an open PyTorch model; what the exporter wrote as external data is left in `folder`.

    :param source: its ``live`` is a ``torch.nn.Module``
    :param folder: for the files that the exporter writes, removed by the caller
    :param apart: weights that become inputs behind the others, so that the graph does not hold them; nothing is known
        of the values of those that stayed in their files
    :raises Exception: whatever the tracer meets in the model's code
    """
    import torch

    feeds = taken(source, example_feeds(inputs, sizes(inputs, TRACED_BATCH, TRACED_SIZE)))
    weights = {name: each for name, each in source.live.named_parameters() if name in apart}
    names = [spec.name for spec in inputs]
    target = folder / "traced.onnx"
    module = _by_position(source.live, names, [*weights], [spec.name for spec in outputs])
    given = (torch.zeros((), dtype=w.dtype).expand(w.shape) if w.is_meta else w.detach() for w in weights.values())
    arguments = (*_tensors(feeds, names), *given)
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        # the exporter traces no scripts inside of others
        module = torch.jit.trace(module, arguments, check_trace=False)
    torch.onnx.export(
        module,
        arguments,
        str(target),
        input_names=[*names, *weights],
        output_names=[spec.name for spec in outputs],
        dynamic_axes={spec.name: dynamic_axes(spec) for spec in (*inputs, *outputs)},
        opset_version=opset,
        dynamo=False,
    )
    return outline(target)


def _tensors(feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(feeds[name]) for name in names)


def output_specs(source: Session, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """What the model returns, each axis named after the input axis with which it grows."""
    traced = taken(source, example_feeds(inputs, sizes(inputs, TRACED_BATCH, TRACED_SIZE)))
    probed = taken(source, example_feeds(inputs, sizes(inputs, PROBED_BATCH, PROBED_SIZE)))
    small, large = source.run(traced), source.run(probed)
    named = {
        (first, second): axis
        for spec in inputs
        for first, second, axis in zip(traced[spec.name].shape, probed[spec.name].shape, spec.axes, strict=True)
        if isinstance(axis, str)
    }
    grown = {
        (past[0] + new[0], past[1] + new[1]): f"{axis} + {other}"
        for past, axis in named.items()
        for new, other in named.items()
        if axis == PAST_AXIS and other in TOKEN_AXES
    }
    named = grown | named
    written = {spec.name: spec.axes for spec in source.outputs}
    return [_output_spec(name, small[name], large[name], named, written.get(name, ())) for name in small]


def taken(source: Session, made_up: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Made-up feeds, or the user's own where the model does not take those."""
    if source.example is None:
        return made_up
    try:
        source.run(made_up)
    except PreconditionFailed:
        return source.example
    return made_up


def _output_spec(
    name: str,
    small: NDArray[Any],
    large: NDArray[Any],
    named: Mapping[tuple[int, int], str],
    written: Sequence[int | str],
) -> TensorSpec:
    """One output; `written` are its axes as the user names them."""
    pairs = zip(small.shape, large.shape, strict=True)
    axes = tuple(
        first if first == second else named.get((first, second), f"{name}_axis_{position}")
        for position, (first, second) in enumerate(pairs)
    )
    user = [axis if isinstance(axis, str) else found for axis, found in zip(written, axes, strict=False)]
    return TensorSpec(name=name, dtype=small.dtype.name, axes=tuple(user) or axes)


def sizes(inputs: Sequence[TensorSpec], batch: int, size: int) -> dict[str, int]:
    """Sizes of every named axis: the batch's, and for each other one of its own, from `size` on."""
    axes = {part for spec in inputs for axis in spec.axes if isinstance(axis, str) for part in axis.split(" + ")}
    others = sorted(axes - {BATCH_AXIS})
    return {BATCH_AXIS: batch} | {axis: size + place for place, axis in enumerate(others)}


def dynamic_axes(spec: TensorSpec) -> dict[int, str]:
    """The axes that have names, by position."""
    return {position: axis for position, axis in enumerate(spec.axes) if isinstance(axis, str)}


def _by_position(
    module: torch.nn.Module, inputs: Sequence[str], weights: Sequence[str], outputs: Sequence[str]
) -> torch.nn.Module:
    """The module with inputs, some of its weights, and outputs in fixed positions."""
    import torch

    class ByPosition(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given = dict(zip(weights, values[len(inputs) :], strict=True))
            with _having(module, given):
                found = self.model(**dict(zip(inputs, values, strict=False)))
            return tuple(found[name] for name in outputs)

    return ByPosition().eval()


@contextmanager
def _having(module: torch.nn.Module, given: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """While it has other weights; torch.func.functional_call does not do that to what is being traced."""
    values = {module.get_parameter(name): value for name, value in given.items()}
    places = [
        (part, name, each) for part in module.modules() for name, each in part._parameters.items() if each in values
    ]
    for part, name, each in places:
        part._parameters[name] = values[each]  # type: ignore[assignment]
    try:
        yield
    finally:
        for part, name, each in places:
            part._parameters[name] = each

"""Weights that a model's graph does not hold while it is traced: which they are, and what becomes of them in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from hfopt import Session
from hfopt_onnx_model.weights import Later, bodies

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto, NodeProto

    Read = Callable[..., torch.Tensor]
    """Some rows and columns of a weight, by slices; all of it by none."""

BLOCK = 1 << 24
"""Numbers that are read at a time."""
LARGE = 1 << 16
"""Numbers of a weight from which the exporter is not given it."""
TAKEN_WHOLE = frozenset({"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"})
"""Operators that take a weight as it is: of others the exporter would work out the result."""


def apart(source: Session) -> Mapping[str, Read]:
    """The weights of an open PyTorch model that its graph need not hold: the exporter and protobuf would copy each.

    :return: what reads them, by name: those that stayed in their files; of a model in memory the larger ones
    """
    import torch

    if source.stored or any(isinstance(part, torch.jit.ScriptModule) for part in source.live.modules()):
        return source.stored
    return {
        name: partial(_part, each.detach())
        for name, each in source.live.named_parameters()
        if each.numel() >= LARGE and each.device.type == "cpu" and type(each) is torch.nn.Parameter
    }


def _part(weight: torch.Tensor, *slices: slice) -> torch.Tensor:
    return weight[slices]


def taken_whole(model: ModelProto, weights: Mapping[str, Read]) -> bool:
    """Whether a graph works out nothing from its inputs that are weights, but for matrices that are transposed once.

    Of a layer that runs several times the exporter keeps one transposed matrix.
    """
    nodes = [node for body in bodies(model) for node in body.node]
    turned = [(node.input[0], node.output[0]) for node in nodes if _turns(node) and node.input[0] in weights]
    results = {result for _, result in turned}
    known = weights.keys() | results
    takes = [node for node in nodes if not known.isdisjoint(node.input)]
    once = len(dict(turned)) == len(turned)
    return once and all(node.op_type in TAKEN_WHOLE or node.output[0] in results for node in takes)


def settle(model: ModelProto, source: Session, stored: Mapping[str, Read]) -> dict[str, Later]:
    """Make inputs that are weights into initializers, whose data are read when they are written.

    A matrix that the graph transposes becomes one that is transposed, as the exporter does with weights that it has:
    `OnnxMatMul4Quantizer` and ONNX Runtime look for constants.

    :param source: what was traced
    :param stored: what reads the weights, by name
    :return: the data, by the initializers' names
    """
    graph = model.graph
    if not stored:
        return {}
    places = [(place, value) for place, value in enumerate(graph.input) if value.name in stored]
    dtypes = {value.name: value.type.tensor_type.elem_type for _, value in places}
    turned = {node.output[0]: node.input[0] for node in graph.node if _turns(node) and node.input[0] in dtypes}
    for place in reversed([place for place, node in enumerate(graph.node) if node.output[0] in turned]):
        del graph.node[place]
    for place, _ in reversed(places):
        del graph.input[place]
    used = {name for body in bodies(model) for node in body.node for name in node.input}
    later: dict[str, Later] = {}
    for name, weight in {**turned, **{name: name for name in dtypes if name in used}}.items():
        like = source.live.get_parameter(weight)
        shape = [*reversed(like.shape)] if name in turned else [*like.shape]
        graph.initializer.add(name=name, data_type=dtypes[weight], dims=shape)
        read = partial(_turned if name in turned else _plain, stored[weight], like)
        later[name] = Later(like.numel() * like.element_size(), read)
    return later


def _turns(node: NodeProto) -> bool:
    """Whether it transposes a matrix."""
    return node.op_type == "Transpose" and [list(each.ints) for each in node.attribute] == [[1, 0]]


def _plain(read: Any, like: torch.Tensor) -> Iterator[bytes]:
    """A weight's bytes in the dtype of another, some rows at a time."""
    rows = max(1, BLOCK * len(like) // like.numel())
    for start in range(0, len(like), rows):
        yield _bytes(read(slice(start, start + rows)).to(like.dtype))


def _turned(read: Any, like: torch.Tensor) -> Iterator[bytes]:
    """As `_plain`, of a matrix transposed."""
    height, width = like.shape
    columns = max(1, BLOCK // height)
    for start in range(0, width, columns):
        yield _bytes(read(slice(None), slice(start, start + columns)).to(like.dtype).T)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()

"""Nodes of an ONNX model replaced by nodes with quantized weights, in a model whose weights are not loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed
from hfopt.api.config import ReportProgress
from hfopt.api.text import did_you_mean
from hfopt_onnx_model.weights import bodies, data_of, tensors
from hfopt_ort_passes.streaming import WeightWriter, free_name

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

STRING = 8
"""`onnx.TensorProto.STRING`, which has no bytes of its own."""

WEIGHT_INPUT = {"MatMul": 1, "Gather": 0}
"""The input that is quantized, by operator."""


@dataclass(frozen=True)
class Target:
    """A node whose weight is to be quantized.

    :param graph: that the node is in
    :param owner: the graph that the weight is in: the same, or one around it
    """

    node: NodeProto
    graph: GraphProto
    weight: TensorProto
    owner: GraphProto


@dataclass(frozen=True)
class Replacement:
    """What a node becomes.

    :param nodes: the first takes the node's place, the others follow it
    :param slices: the tensors for each slice of the weight, to be joined along axis 0
    """

    nodes: list[NodeProto]
    slices: list[list[TensorProto]]


def targets_in(
    graph: GraphProto, outer: Mapping[str, tuple[TensorProto, GraphProto]] | None = None
) -> Iterator[Target]:
    """Every MatMul and Gather that has a weight, in this graph and those inside it.

    :param outer: initializers of the graphs around, and which graph holds them
    """
    scope = dict(outer or {}) | {tensor.name: (tensor, graph) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from targets_in(inner, scope)
        position = WEIGHT_INPUT.get(node.op_type)
        if position is not None and node.domain in ("", "ai.onnx") and node.input[position] in scope:
            yield Target(node, graph, *scope[node.input[position]])


def replace(
    model: ModelProto,
    targets: list[Target],
    quantize: Callable[[Target, bool], Replacement],
    writer: WeightWriter,
    progress: ReportProgress,
) -> frozenset[str]:
    """Put quantized nodes in the place of others. A weight that several nodes share is quantized and stored once.

    :param quantize: gives a target's replacement; told whether another node had its tensors already
    :return: the names of the tensors that were added
    """
    taken = {name for graph in graphs(model) for name in _names(graph)}
    added: set[str] = set()
    known: dict[tuple[str, str, int], dict[str, str]] = {}
    for done, target in enumerate(targets, 1):
        key = (target.node.op_type, target.weight.name, id(target.owner))
        replacement = quantize(target, key in known)
        names = known.setdefault(key, {})
        for name, parts in _by_name(replacement.slices).items():
            if name not in names:
                names[name] = free_name(name, taken)
                taken.add(names[name])
                added.add(names[name])
                _store(names[name], parts, target.owner, writer)
        _put_in_place(target, replacement.nodes, names)
        progress("quantize", done, len(targets))
    return frozenset(added)


def _names(graph: GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*graph.input, *graph.initializer))
    yield from (name for node in graph.node for name in node.output)


def _by_name(slices: list[list[TensorProto]]) -> dict[str, list[TensorProto]]:
    parts: dict[str, list[TensorProto]] = {}
    for piece in slices:
        for tensor in piece:
            parts.setdefault(tensor.name, []).append(tensor)
    return parts


def _store(name: str, parts: list[TensorProto], owner: GraphProto, writer: WeightWriter) -> None:
    tensor = owner.initializer.add()
    tensor.name, tensor.data_type = name, parts[0].data_type
    rows = [sum(part.dims[0] for part in parts)] if parts[0].dims else []
    tensor.dims.extend([*rows, *parts[0].dims[1:]])
    writer.put(tensor, b"".join(part.raw_data for part in parts))


def _put_in_place(target: Target, nodes: list[NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
    following = next(number for number, node in enumerate(target.graph.node, 1) if node is target.node)
    target.node.CopyFrom(nodes[0])
    for number, node in enumerate(nodes[1:], following):
        target.graph.node.insert(number, node)


def take_over(
    model: ModelProto, added: frozenset[str], writer: WeightWriter, source: Path, *, convert_attribute: bool
) -> None:
    """Drop the weights that no node uses any more, and copy the others.

    :param added: tensors that are in place already
    :param source: the folder that external data of the others are in
    :param convert_attribute: write tensors that are attributes beside the model too
    """
    from onnx.external_data_helper import uses_external_data

    everything = graphs(model)
    used = {name for graph in everything for node in graph.node for name in node.input}
    used |= {value.name for graph in everything for value in graph.output}
    for graph in everything:
        unused = {tensor.name for tensor in graph.initializer} - used
        for field in (graph.initializer, graph.input):
            for number in reversed(range(len(field))):
                if field[number].name in unused:
                    del field[number]
    for tensor, in_a_node in tensors(model):
        if tensor.name in added:
            continue
        if uses_external_data(tensor):
            writer.copy(tensor, source)
        elif writer.external and tensor.data_type != STRING and (convert_attribute or not in_a_node):
            writer.put(tensor, data_of(tensor, source))


def graphs(model: ModelProto) -> list[GraphProto]:
    """The graph of a model, and those inside it."""
    return [body for body in bodies(model) if body.DESCRIPTOR.name == "GraphProto"]


def check_names(model: ModelProto, option: str, names: Iterable[str]) -> None:
    """Refuse names that no node has.

    :raises PreconditionFailed: with the nearest name that a node has
    """
    known = {node.name for graph in graphs(model) for node in graph.node if node.name}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise PreconditionFailed(f"{option}: the graph has no node {name!r}", hint=hint)

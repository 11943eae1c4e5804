"""Rotary embeddings (Su et al. 2021) as Hugging Face writes them, each as one operator of ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hfopt_ort_passes.making import Making, written

if TYPE_CHECKING:
    from onnx import NodeProto
    from onnxruntime.transformers.onnx_model import OnnxModel

TABLES = """
    begin = Constant <value = int64[1] {0}> ()
    last = Constant <value = int64[1] {2}> ()
    first_cos = Slice (cos, begin, half, last)
    first_sin = Slice (sin, begin, half, last)
    cosines = Flatten <axis = 2> (first_cos)
    sines = Flatten <axis = 2> (first_sin)
    shape = Shape (first_cos)
    grid = Slice (shape, begin, last)
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    count = ReduceProd <keepdims = 0> (grid)
    rows = Range (zero, count, one)
    in_grid = Reshape (rows, grid)
    axes = Constant <value = int64[2] {0, 2}> ()
    whole = Shape (x)
    tokens = Gather (whole, axes)
    positions = Expand (in_grid, tokens)
"""
"""Tables with a row for each token of the batch, and which row is a token's."""


@dataclass(frozen=True)
class Rotation:
    """``x * cos + concat(-second half of x, first half) * sin``.

    `x` is [batch, heads, sequence, width], the tables are [batch, sequence, width], and `half` is where the second half
    of the width begins.
    """

    x: str
    cos: str
    sin: str
    half: str


def fuse_rotary(model: OnnxModel) -> None:
    """Put RotaryEmbedding in place of rotations.

    It gets the cosines and sines that the graph computes from its positions, so that whatever scales or stretches them
    stays as it is.
    """
    from onnx import helper

    making = Making(model.model.graph)
    tables: dict[tuple[str, str], str] = {}
    for node in model.get_nodes_by_op_type("Add"):
        if (found := _rotation(making, node)) is None:
            continue
        key = found.cos, found.sin
        if key not in tables:
            tables[key] = f"rotary{len(tables)}"
            model.add_nodes(written(TABLES, tables[key], asdict(found)))
        inputs = [found.x, *(f"{tables[key]}/{name}" for name in ("positions", "cosines", "sines"))]
        model.remove_node(node)
        model.add_node(
            helper.make_node("RotaryEmbedding", inputs, list(node.output), node.name, domain="com.microsoft")
        )
    model.prune_graph(allow_remove_graph_inputs=False)


def _rotation(making: Making, node: NodeProto) -> Rotation | None:
    """What a sum rotates; None if it is another sum."""
    plain, turned = (making.node(name, "Mul") for name in node.input)
    halves = making.node(turned.input[0], "Concat") if turned else None
    if plain is None or turned is None or halves is None or len(halves.input) != 2:
        return None
    negated, first = making.node(halves.input[0], "Neg"), making.node(halves.input[1], "Slice")
    second = making.node(negated.input[0], "Slice") if negated else None
    if first is None or second is None or not plain.input[0] == first.input[0] == second.input[0]:
        return None
    ends, begins = (making.source(name, behind=["Unsqueeze"]) for name in (first.input[2], second.input[1]))
    cos, sin = _table(making, plain.input[1], "Cos"), _table(making, turned.input[1], "Sin")
    if cos is None or sin is None or ends != begins or making.constant(first.input[1]) != 0:
        return None
    return Rotation(plain.input[0], cos, sin, half=first.input[2])


def _table(making: Making, name: str, wave: str) -> str | None:
    """The table that a value spreads over heads, if both halves of it are the same."""
    spread = making.node(name, "Unsqueeze")
    waves = making.node(spread.input[0], wave, behind=["Cast", "Mul"]) if spread else None
    angles = making.node(waves.input[0], "Concat") if waves else None
    return spread.input[0] if spread and angles and len(set(angles.input)) == 1 else None

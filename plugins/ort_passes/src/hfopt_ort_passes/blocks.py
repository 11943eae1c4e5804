"""The blocks that a transformer's nodes are of, by the names that exporters give to what a module computes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from hfopt import PreconditionFailed
from hfopt.api.forecast import Weights

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

EMBEDDINGS, HEAD = "embeddings", "head"

Block = int | Literal["embeddings", "head"]
"""A block's number, from the last if negative; what comes before the first; what comes after the last."""

_NUMBERED = re.compile(r"^(.*?([^/.]+)\.\d+)(?=/)")
"""``/bert/encoder/layer.5`` and ``layer`` of ``/bert/encoder/layer.5/output/dense/MatMul``."""


def blocks(graph: GraphProto) -> dict[str, str]:
    """The block of each node, by the node's name, in the graph's order: ``/bert/encoder/layer.5``.

    Of several lists of modules the one with most nodes counts, and those of the same name: a classifier's numbered
    layers are of the head. A node whose name tells no block is of the one before it.

    :return: empty if no name tells a block, as in graphs of PyTorch's dynamo exporter
    """
    told = [(node.name, *_told(node)) for node in graph.node]
    lists = Counter(name for _, _, name in told if name)
    if not lists:
        return {}
    usual = max(lists, key=lambda name: lists[name])
    last = max(number for number, (_, _, name) in enumerate(told) if name == usual)
    found, current = {}, EMBEDDINGS
    for number, (node_name, path, name) in enumerate(told):
        current = HEAD if number > last else path if name == usual else current
        found[node_name] = current
    found.pop("", None)
    return found


def nodes_of(graph: GraphProto, wanted: Iterable[Block]) -> list[str]:
    """The names of the nodes of some blocks.

    :raises PreconditionFailed: names tell no blocks, or there is none of a number
    """
    wanted, found = tuple(wanted), blocks(graph)
    if wanted and not found:
        raise PreconditionFailed(
            "blocks_to_exclude: the names of the graph's nodes don't tell which block they are of",
            hint="name the nodes in nodes_to_exclude",
        )
    numbered = [name for name in dict.fromkeys(found.values()) if name not in (EMBEDDINGS, HEAD)]
    for each in wanted:
        if isinstance(each, int) and not -len(numbered) <= each < len(numbered):
            raise PreconditionFailed(
                f"blocks_to_exclude: there is no block {each}; the graph has {len(numbered)}, 0 to {len(numbered) - 1}"
            )
    chosen = {numbered[each] if isinstance(each, int) else each for each in wanted}
    return [name for name, block in found.items() if block in chosen]


def apart(weights: Weights, excluded: Iterable[Block]) -> Weights:
    """A forecast in which the weights of some blocks are of kinds that are never quantized: ``matrix, excluded``.

    All blocks are taken for equally large; of a model that has not told how many it has, none is known.
    """
    chosen, total = {*excluded}, round(weights.get("blocks", (0, 0))[0])
    numbered = {each % total for each in chosen if isinstance(each, int)} if total else ()
    shares = {"head": float(HEAD in chosen), "table": float(EMBEDDINGS in chosen), "blocks": 0.0, "other": 0.0}
    found: dict[str, tuple[float, float]] = {}
    for kind, (count, bits) in weights.items():
        share = shares.get(kind, len(numbered) / max(1, total))
        found[kind] = (count * (1 - share), bits)
        if share:
            found[f"{kind}, excluded"] = (count * share, bits)
    return found


def _told(node: NodeProto) -> tuple[str, str]:
    """The path of a node's block, and the name of the list that it is in; empty where no name tells.

    The name of what the node makes goes first: fused nodes have names of their own, and keep those of their outputs.
    """
    matches = (_NUMBERED.match(name) for name in (*node.output[:1], node.name))
    return next(((match[1], match[2]) for match in matches if match), ("", ""))

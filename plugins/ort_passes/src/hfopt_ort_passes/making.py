"""What makes the values of a graph, and nodes from text: how rewrites find what they replace, and write what does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto


class Making:
    """The nodes of a graph, by what they make."""

    def __init__(self, graph: GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}

    def node(self, name: str, *operators: str, behind: Collection[str] = ()) -> NodeProto | None:
        """The node that makes a value, if it is one of some operators.

        :param behind: operators that may be in between, along their first inputs
        """
        made = self._makers.get(self.source(name, behind=behind))
        return made if made is not None and made.op_type in operators else None

    def source(self, name: str, *, behind: Collection[str]) -> str:
        """The value that another is made of, along the first inputs of some operators."""
        while (made := self._makers.get(name)) is not None and made.op_type in behind:
            name = made.input[0]
        return name

    def constant(self, name: str) -> NDArray[Any] | None:
        """A value that is written in the graph; None if it is computed, or an input."""
        from onnx import numpy_helper

        made = self.node(name, "Constant")
        tensor = self._weights.get(name) if made is None else attribute(made, "value")
        return None if tensor is None else numpy_helper.to_array(tensor)


def attribute(node: NodeProto, name: str) -> Any:
    """What a node states; None if it leaves it at its default."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)


def written(text: str, prefix: str, values: Mapping[str, str]) -> list[NodeProto]:
    """The nodes of a text in ONNX's own syntax.

    :param prefix: of their names, and of those of the values that they make
    :param values: of the graph that they go into, by their names in the text
    """
    from onnx import parser

    nodes = list(parser.parse_graph(f"g () => () {{ {text} }}").node)
    for number, node in enumerate(nodes):
        node.name = f"{prefix}/{node.op_type}_{number}"
        node.input[:] = [values.get(name, f"{prefix}/{name}" if name else "") for name in node.input]
        node.output[:] = [values.get(name, f"{prefix}/{name}") for name in node.output]
    return nodes

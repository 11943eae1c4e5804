"""Weights of a graph that are scaled by channel, so that what their nodes make is, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt_ort_passes.making import attribute
from hfopt_ort_passes.rewriting import graphs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

NORMS = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}
"""The inputs that the result is proportional to, taken together: gamma, beta."""


@dataclass(frozen=True)
class Part:
    """Where a weight has the channels of what its node makes.

    :param axis: along which they are, the last ones
    """

    node: NodeProto
    position: int
    axis: int = -1


class Weights:
    """The float32 weights of a model, which it changes. One that other nodes use too is changed for one node alone."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._makers = {name: node for node in self._graph.node for name in node.output if name}
        self._uses = Counter(name for graph in graphs(model) for node in graph.node for name in node.input)
        self._uses.update(value.name for graph in graphs(model) for value in graph.output)

    def of(self, node: NodeProto, position: int) -> NDArray[Any] | None:
        """An input that is a float32 weight."""
        from onnx import TensorProto, numpy_helper

        name = node.input[position] if position < len(node.input) else ""
        tensor = self._tensors.get(name)
        return None if tensor is None or tensor.data_type != TensorProto.FLOAT else numpy_helper.to_array(tensor)

    def rows(self, node: NodeProto) -> NDArray[Any] | None:
        """The weight of a MatMul, Gemm or Attention, [in, out]; None: there is none, or its input is transposed."""
        weight = self.of(node, 1)
        if weight is None or weight.ndim != 2 or attribute(node, "transA"):
            return None
        return weight.T if attribute(node, "transB") else weight

    def multiply_rows(self, node: NodeProto, scale: NDArray[Any]) -> None:
        """Multiply the weights of each input channel of such a node.

        :param scale: [in]
        """
        self._multiply(Part(node, 1, 1 if attribute(node, "transB") else 0), scale)

    def divide(self, value: str, scale: NDArray[Any], consumers: Sequence[NodeProto]) -> bool:
        """Divide a value by channel by dividing the weights of what makes it.

        :param scale: [channels], the value's last axis
        :param consumers: who gets the divided value
        :return: False: others use it, or no weights are like that, and nothing was done
        """
        if self._uses[value] > sum(name == value for node in consumers for name in node.input):
            return False
        parts = self._parts(value, len(scale))
        for part in parts or ():
            self._multiply(part, 1 / scale)
        return parts is not None

    def divide_by_node(self, value: str, scale: NDArray[Any], consumers: Sequence[NodeProto], name: str) -> None:
        """Divide a value by channel for some of its consumers, by a Mul.

        :param name: of the node
        """
        import numpy as np
        from onnx import helper, numpy_helper

        factor, divided = f"{name}/factor", f"{name}/divided"
        self._graph.initializer.append(numpy_helper.from_array((1 / scale).astype(np.float32), factor))
        first = min(number for number, node in enumerate(self._graph.node) if any(node is each for each in consumers))
        for node in consumers:
            node.input[0] = divided
        self._graph.node.insert(first, helper.make_node("Mul", [value, factor], [divided], name))

    def _parts(self, value: str, width: int) -> list[Part] | None:
        """The weights that a value is proportional to by channel, all of them together; None if there are no such."""
        node = self._makers.get(value)
        if node is None or [name for name in node.output if name] != [value]:
            return None
        match node.op_type:
            case "Attention":
                parts = [Part(node, number) for number in (1, 2) if number < len(node.input)]
                return parts if self._have(parts, at_least=width) else None
            case "MatMul" | "Gemm":
                weight = Part(node, 1, 0 if attribute(node, "transB") else -1)
                bias = [Part(node, 2)] if len(node.input) > 2 else []
                return [weight, *bias] if self._have([weight, *bias], width) else None
            case "Add":
                return self._both(node, width)
            case "Gather" if attribute(node, "axis") == 1 and self._is_one(node.input[1]):  # a token, of all channels
                return self._operand(node, 0, width)
            case "Mul":
                return next(filter(None, (self._operand(node, number, width) for number in (1, 0))), None)
            case _ if node.op_type in NORMS:
                parts = [Part(node, number) for number in NORMS[node.op_type] if number < len(node.input)]
                return parts if self._have(parts, width) else None
        return None

    def _is_one(self, name: str) -> bool:
        """Whether a value is a weight of one element."""
        return name in self._tensors and all(size == 1 for size in self._tensors[name].dims)

    def _both(self, node: NodeProto, width: int) -> list[Part] | None:
        first, second = (self._operand(node, number, width) for number in (0, 1))
        return None if first is None or second is None else [*first, *second]

    def _operand(self, node: NodeProto, number: int, width: int) -> list[Part] | None:
        """The weights that an operand is proportional to, if nothing else uses it."""
        part = Part(node, number)
        if self.of(node, number) is not None:
            return [part] if self._have([part], width) else None
        return self._parts(node.input[number], width) if self._uses[node.input[number]] == 1 else None

    def _have(self, parts: Sequence[Part], width: int = 0, *, at_least: int = 0) -> bool:
        """Whether all are weights that have so many channels."""
        found = [self.of(part.node, part.position) for part in parts]
        pairs = zip(found, parts, strict=True)
        sizes = [0 if each is None or not each.ndim else each.shape[part.axis] for each, part in pairs]
        return all(size >= at_least > 0 if at_least else size == width for size in sizes)

    def _multiply(self, part: Part, scale: NDArray[Any]) -> None:
        import numpy as np
        from onnx import numpy_helper

        name = part.node.input[part.position]
        array = numpy_helper.to_array(self._tensors[name]).copy()
        channels = np.moveaxis(array, part.axis, -1)[..., -len(scale) :]
        channels[...] = channels * scale
        if self._uses[name] > 1:
            self._uses[name] -= 1
            name = part.node.input[part.position] = self._free(name)
            self._uses[name] = 1
            self._tensors[name] = self._graph.initializer.add()
        self._tensors[name].CopyFrom(numpy_helper.from_array(array, name))

    def _free(self, name: str) -> str:
        number = 1
        while (candidate := f"{name}_scaled{number}") in self._tensors:
            number += 1
        return candidate

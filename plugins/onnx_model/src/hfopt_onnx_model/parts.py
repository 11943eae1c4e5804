"""An ONNX model that is run in parts, one after the other: memory holds the weights of one part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Session
from hfopt_onnx_model.graph import describe_io, load
from hfopt_onnx_model.session import HOST, array, refusing, suited
from hfopt_onnx_model.settings import InferenceSettings, session_options
from hfopt_onnx_model.weights import span

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

    Feeds = Mapping[str, NDArray[Any]]

MOST = 512_000_000
"""Bytes of weights in a part, unless a single node has more."""
WHOLE_NOT_HELD = "a model of this size is run in parts here: no session has all of it"


@dataclass(frozen=True)
class Part:
    """Nodes that are run together.

    :param model: they with their weights, and without inputs: their dtypes are known when they are there
    :param takes: what comes from outside
    :param dropped: what no later part takes, and the model does not return
    """

    model: ModelProto
    takes: tuple[str, ...]
    dropped: frozenset[str]


class PartsSession(Session):
    """Opens each part whenever it is its turn, with weights mapped into memory and not packed.

    :param path: a model whose nodes are in the order in which they can run, as ONNX has it
    """

    def __init__(self, path: Path, settings: InferenceSettings, threads: int | None) -> None:
        self.inputs, self.outputs = describe_io(path)
        self._parts = list(cut(load(path, weights=False), path.parent, MOST))
        self._options = session_options(settings, threads, profile=path.stem)
        self._options.add_session_config_entry("session.disable_prepacking", "1")
        self._options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        from onnxruntime import OrtValue

        with refusing("ONNX Runtime can't run the model"):
            values = {
                name: OrtValue.ortvalue_from_numpy(given, HOST) for name, given in suited(feeds, self.inputs).items()
            }
            for part in self._parts:
                values |= self._run(part, values)
                values = {name: value for name, value in values.items() if name not in part.dropped}
        return {spec.name: array(values[spec.name]) for spec in self.outputs}

    def _run(self, part: Part, values: Mapping[str, onnxruntime.OrtValue]) -> dict[str, onnxruntime.OrtValue]:
        """What a part makes."""
        import onnx
        import onnxruntime

        taken = {name: values[name] for name in part.takes}
        model = onnx.ModelProto()
        model.CopyFrom(part.model)
        for name, value in taken.items():
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, value.element_type(), None))
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), self._options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in model.graph.output]
        return dict(zip(names, session.run_with_ort_values(names, taken), strict=True))

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        raise PreconditionFailed(WHOLE_NOT_HELD)

    @property
    def live(self) -> Any:
        raise PreconditionFailed(WHOLE_NOT_HELD)


def cut(model: ModelProto, folder: Path, most: int) -> Iterator[Part]:
    """A model as parts whose weights are of `most` bytes, or of one node.

    :param folder: where its external data are
    """
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    sizes = {name: _size(tensor, folder) for name, tensor in weights.items()}
    groups = list(_grouped(model.graph.node, sizes, most))
    reads = [set().union(*map(_reads, nodes)) for nodes in groups]
    wanted = {output.name for output in model.graph.output}
    left = {value.name for value in model.graph.input}
    for place, nodes in enumerate(groups):
        later = wanted.union(*reads[place + 1 :])
        made = [name for node in nodes for name in node.output if name in later]
        part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
        part.graph.name = model.graph.name
        part.graph.node.extend(nodes)
        part.graph.initializer.extend(weights[name] for name in sorted(reads[place] & weights.keys()))
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
        takes = left & reads[place] - weights.keys()
        left |= {*made}
        yield Part(part, tuple(sorted(takes)), frozenset(left - later))
        left &= later


def _size(tensor: TensorProto, folder: Path) -> int:
    from onnx.external_data_helper import uses_external_data

    return span(tensor, folder)[2] if uses_external_data(tensor) else tensor.ByteSize()


def _grouped(nodes: Sequence[NodeProto], sizes: Mapping[str, int], most: int) -> Iterator[list[NodeProto]]:
    """Nodes in their order, as many together as have weights of `most` bytes."""
    group: list[NodeProto] = []
    held: set[str] = set()
    for node in nodes:
        taken = _reads(node) & sizes.keys()
        if group and taken - held and sum(sizes[name] for name in held | taken) > most:
            yield group
            group, held = [], set()
        group.append(node)
        held |= taken
    yield group


def _reads(node: NodeProto) -> set[str]:
    """What a node and the graphs inside of it read; what those make themselves too, which nobody outside knows."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        inner: list[GraphProto] = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in inner:
            found |= {output.name for output in graph.output}.union(*map(_reads, graph.node))
    return found

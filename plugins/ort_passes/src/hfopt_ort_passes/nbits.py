"""What becomes of a node whose weight gets 4 or 8 bits, by ONNX Runtime's own weight-only quantizers.

They work on a whole model in memory. Here each gets a model of one node and a slice of its weight, which bounds what it
needs. Output channels are quantized independently: slices put together are what the whole gives.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hfopt import PluginError, PreconditionFailed
from hfopt_ort_passes.quiet import quiet
from hfopt_ort_passes.rewriting import Replacement, graphs
from hfopt_ort_passes.tables import quantized

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
    from onnxruntime.quantization.matmul_nbits_quantizer import WeightOnlyQuantConfig

SLICE = 1 << 26
"""Bytes of a weight that are quantized at a time; RTN and k_quant need about ten times as much."""

LARGE = 1 << 20
"""Bytes of a slice after which it pays to look for what it left in memory."""

WHOLE = frozenset({"HQQ"})
"""Algorithms that stop once the error of the whole weight no longer falls: they can't be given slices."""

PAIRED = frozenset({"RTN", "k_quant", "GPTQ"})
"""Algorithms that pack two zero points to a byte across channels, and fail if a channel has an odd number of them."""


@dataclass(frozen=True)
class Recipe:
    """How weights are quantized.

    :param algorithm: as ONNX Runtime spells it
    :param symmetric: no zero points; of no meaning to HQQ and k_quant
    :param accuracy_level: of MatMulNBits; 0: not stated
    :param quantize_axis: along which the weight of a Gather is cut into blocks
    :param options: the algorithm's own: ``ratios`` of RTN; GPTQ's
    """

    algorithm: str
    bits: int
    block_size: int
    symmetric: bool
    accuracy_level: int
    quantize_axis: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_packed_zero_points(self) -> bool:
        """Whether channels must have an even number of blocks."""
        return self.algorithm == "k_quant" or (self.algorithm in PAIRED and not self.symmetric)


def can_quantize(operator: str, weight: TensorProto, recipe: Recipe) -> bool:
    """Whether the algorithm takes a weight of this type and shape: matrices, and for some what is one but for ones."""
    from onnx import TensorProto

    shape = tuple(weight.dims)
    types = {TensorProto.FLOAT, TensorProto.FLOAT16} | (
        {TensorProto.BFLOAT16} if recipe.algorithm == "DEFAULT" else set()
    )
    if weight.data_type not in types or len(shape) < 2 or 0 in shape:
        return False
    if operator == "Gather":
        axis = range(len(shape))[recipe.quantize_axis] if -len(shape) <= recipe.quantize_axis < len(shape) else None
        return axis is not None and (recipe.bits == 4 or axis == len(shape) - 1)
    return all(size == 1 for size in shape[:-2]) and (len(shape) == 2 or recipe.algorithm in ("DEFAULT", "HQQ"))


def declare(model: ModelProto) -> None:
    """State what quantized operators need: ONNX Runtime's own operators, and IR version 10 for 4-bit tensors."""
    from onnx import TensorProto, helper

    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    tensors = (tensor for graph in graphs(model) for tensor in graph.initializer)
    if any(tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) for tensor in tensors):
        model.ir_version = max(model.ir_version, 10)


def quantize_node(
    node: NodeProto,
    shape: Sequence[int],
    read: Callable[..., NDArray[Any]],
    recipe: Recipe,
    *,
    infos: Iterable[ValueInfoProto] = (),
    nodes_only: bool = False,
) -> Replacement:
    """Quantize the weight of one node.

    :param shape: of the weight
    :param read: gives the weight, or some of its ``rows`` or ``columns``
    :param infos: shapes that the graph states
    :param nodes_only: quantize no more than it takes to get the nodes: the tensors are known already
    """
    nodes: list[NodeProto] = []
    slices = []
    for piece in _pieces(node, shape, read, recipe, narrow=nodes_only):
        if node.op_type == "Gather" and recipe.bits == 8:
            graph = quantized(node, piece, recipe.block_size, symmetric=recipe.symmetric)
        else:
            graph = _library_run(node, piece, recipe, infos)
        nodes = nodes or list(graph.node)
        slices.append([_copy(tensor) for tensor in graph.initializer])
        del graph
        if piece.nbytes > LARGE:
            gc.collect()  # the quantizers leave cycles that hold the piece
    for attribute in nodes[0].attribute:
        if attribute.name == "N" and len(shape) == 2:
            attribute.i = shape[1]
    return Replacement(nodes, slices)


def _copy(tensor: TensorProto) -> TensorProto:
    """One that does not keep in memory the graph that it comes from, with the weight as it was."""
    from onnx import TensorProto

    copy = TensorProto()
    copy.CopyFrom(tensor)
    return copy


def _pieces(
    node: NodeProto, shape: Sequence[int], read: Callable[..., NDArray[Any]], recipe: Recipe, *, narrow: bool
) -> Iterator[NDArray[Any]]:
    """A weight in pieces of whole channels: columns for MatMul [in, out], rows for Gather [entries, width].

    Where entries are cut across, or the algorithm looks at the whole, there is one piece. The number of rows is even,
    as two 4-bit values share a byte.

    :param narrow: the smallest piece only
    """
    if len(shape) != 2 or (not narrow and (recipe.algorithm in WHOLE or _cuts_entries(node, recipe))):
        yield read()
        return
    axis, other, least = ("rows", 1, 2) if node.op_type == "Gather" else ("columns", 0, 1)
    step = least * max(1, SLICE // (4 * least * shape[other]))
    for start in (0,) if narrow else range(0, shape[1 - other], step):
        yield read(**{axis: slice(start, start + (least if narrow else step))})


def _cuts_entries(node: NodeProto, recipe: Recipe) -> bool:
    return node.op_type == "Gather" and recipe.quantize_axis % 2 == 0


def _library_run(node: NodeProto, weight: NDArray[Any], recipe: Recipe, infos: Iterable[ValueInfoProto]) -> GraphProto:
    """The graph that ONNX Runtime makes of a graph with one node."""
    import numpy as np
    from onnx import helper, numpy_helper

    position = 0 if node.op_type == "Gather" else 1
    initializer = numpy_helper.from_array(np.ascontiguousarray(weight), node.input[position])
    graph = helper.make_graph([node], "one", [], [], [initializer], value_info=infos)
    graph.output.add().name = node.output[0]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch, about an array that can't be written to
        quantizer = quantizer_class()(
            model,
            bits=recipe.bits,
            block_size=recipe.block_size,
            is_symmetric=recipe.symmetric,
            accuracy_level=recipe.accuracy_level,
            algo_config=_library_config(node, recipe),
        )
        quantizer.process()
    return quantizer.model.model.graph


def _library_config(node: NodeProto, recipe: Recipe) -> WeightOnlyQuantConfig:
    from onnxruntime.quantization import matmul_nbits_quantizer as library

    if recipe.algorithm == "DEFAULT":
        return library.DefaultWeightOnlyQuantConfig(
            block_size=recipe.block_size,
            is_symmetric=recipe.symmetric,
            accuracy_level=recipe.accuracy_level,
            op_types_to_quantize=(node.op_type,),
            quant_axes=(("MatMul", 0), ("Gather", recipe.quantize_axis)),
            bits=recipe.bits,
        )
    if recipe.algorithm == "HQQ":
        return library.HQQWeightOnlyQuantConfig(block_size=recipe.block_size, bits=recipe.bits)
    bits = {node.name: {"bits": recipe.bits}}
    if recipe.algorithm == "RTN":
        return library.RTNWeightOnlyQuantConfig(**recipe.options, customized_weight_config=bits)
    return library.KQuantWeightOnlyQuantConfig(customized_weight_config=bits)


def quantizer_class() -> Any:
    """ONNX Runtime's quantizer.

    :raises PluginError: this ONNX Runtime is older than the quantizer
    """
    import onnxruntime

    try:
        with quiet():  # importing it configures the root logger
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    except ImportError as error:
        raise PluginError(
            f"ONNX Runtime {onnxruntime.__version__} can't quantize weights to 4 bits: {error}",
            hint="pip install 'onnxruntime>=1.23' onnx-ir",
        ) from error
    return MatMulNBitsQuantizer


def check_installed(algorithm: str) -> None:
    """See that what the algorithm needs is there: HQQ computes with PyTorch, which this plugin has no other use for.

    :raises PluginError: it is not installed, or too old
    """
    quantizer_class()
    if algorithm != "HQQ":
        return
    try:
        import torch  # noqa: F401 - the quantizer imports it
    except ModuleNotFoundError as error:
        raise PluginError("HQQ computes with PyTorch, which is not installed", hint="pip install torch") from error


def check_blocks(names: Mapping[str, int], recipe: Recipe) -> None:
    """Refuse weights that the algorithm can't pack.

    :param names: the number of input channels of each weight, by the name of the node
    :raises PreconditionFailed: a channel has an odd number of blocks
    """
    odd = [name for name, rows in names.items() if -(-rows // recipe.block_size) % 2]
    if recipe.has_packed_zero_points and odd:
        shown = ", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
        raise PreconditionFailed(
            f"{recipe.algorithm} with zero points packs two blocks of a channel to a byte; with block_size "
            f"{recipe.block_size} their number is odd in {shown}",
            hint="choose another block_size or algorithm, or name those nodes in nodes_to_exclude",
        )

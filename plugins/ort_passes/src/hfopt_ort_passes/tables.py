"""Embedding tables of 8 bits in blocks, for GatherBlockQuantized: ONNX Runtime's quantizer makes those of 4 only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

ZERO_POINT = 128
"""Of bytes where none is written."""


def quantized(node: NodeProto, table: NDArray[Any], block_size: int, *, symmetric: bool) -> GraphProto:
    """The graph of one node that looks up in a table of bytes, and its tensors.

    As in ONNX Runtime's blocks of 4 bits, the value of a block that is furthest from 0 becomes the lowest integer;
    without symmetry the least and the greatest become the ends of the range, which holds 0.

    :param table: [entries, width] of floats, cut into blocks along each entry
    """
    from onnx import helper, numpy_helper

    values, scales, zero_points = blockwise(table, block_size, symmetric=symmetric)
    weight, gathered = node.input[0], node.output[0]
    tensors = {f"{weight}_Q8": values, f"{weight}_scales": scales}
    tensors |= {} if zero_points is None else {f"{weight}_zero_points": zero_points}
    first, *others = tensors
    axes = {"gather_axis": _axis(node), "quantize_axis": table.ndim - 1}
    made = helper.make_node(
        "GatherBlockQuantized",
        [first, node.input[1], *others],
        [gathered],
        f"{node.name}_Q8" if node.name else "",
        domain="com.microsoft",
        bits=8,
        block_size=block_size,
        **axes,
    )
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return helper.make_graph([made], "one", [], [], stored)


def blockwise(
    table: NDArray[Any], block_size: int, *, symmetric: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """A table [..., width] as bytes of its shape, with a scale, and a zero point if not `symmetric`, for each block.

    :return: bytes, scales [..., blocks] of the table's dtype, zero points [..., blocks] or None
    """
    import numpy as np

    *entries, width = table.shape
    count = -(-width // block_size)
    padded = np.zeros((*entries, count * block_size), np.float32)
    padded[..., :width] = table
    blocks = padded.reshape(*entries, count, block_size)
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    if symmetric:
        scales = np.where(high > -low, high, low) / -ZERO_POINT
        offsets = np.full(scales.shape, ZERO_POINT)
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scales = (high - low) / 255
        offsets = np.rint(-low / np.where(scales == 0, 1, scales))
    scales = scales.astype(table.dtype)
    divisors = np.where(scales == 0, 1, scales).astype(np.float32)[..., None]
    values = np.clip(np.rint(blocks / divisors) + offsets[..., None], 0, 255).astype(np.uint8)
    flat = values.reshape(padded.shape)[..., :width]
    return np.ascontiguousarray(flat), scales, None if symmetric else offsets.astype(np.uint8)


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)

"""Where products of 8-bit integers overflow 16 bits: on x86 CPUs that have AVX2 or AVX-512 and no VNNI.

There ONNX Runtime multiplies unsigned activations by signed weights with vpmaddubsw, which adds two neighbouring
products into 16 bits and saturates (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW).
VNNI's vpdpbusd adds four of them into 32 bits. Unsigned weights are widened to 16 bits first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle
from hfopt_onnx_model.settings import with_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
WIDE = frozenset({"avx2", "avx512bw"})
"""With neither, ONNX Runtime widens before it multiplies."""

LARGEST_SUM = 128
"""Of two neighbouring weights: 255 times one more is above 32,767, which 16 bits hold. Of opposite signs, which take
away from one another, or are multiplied by 0, no two reach it."""

EXACT_PRODUCTS = "session.x64quantprecision"
"""The session config entry that makes ONNX Runtime's weights unsigned, with other zero points, as a session is made."""

WEIGHT_INPUT = {
    "DynamicQuantizeMatMul": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QAttention": 1,
    "QGemm": 3,
    "QLinearMatMul": 3,
}
"""Operators that multiply by a quantized weight, and which input it is; MatMul and Gemm in pairs (QDQ)."""


def saturates(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU adds products of 8 bits into 16; False too where the system tells no flags."""
    with suppress(OSError), cpuinfo.open() as lines:
        flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
        return not WIDE.isdisjoint(flags) and VNNI.isdisjoint(flags)
    return False


def pairs_too_large(model: ModelProto) -> dict[str, float]:
    """The share of each node's pairs of signed weights whose products can overflow 16 bits, by the node's name.

    Whether they do depends on the activations: both must be near their largest. Convolutions are not looked at.

    :return: nodes with such pairs only, those with most first
    """
    shares = {node.name or node.output[0]: _share(weight, node) for node, weight in _signed_weights(model)}
    return dict(sorted(((name, share) for name, share in shares.items() if share), key=lambda each: -each[1]))


def with_exact_products(model: ModelHandle) -> ModelHandle:
    """The same model, which sessions run without saturation unless its settings say otherwise.

    ONNX Runtime heeds the entry on CPUs whose products saturate alone, from graph optimization level 2 on.
    """
    return with_entry(model, EXACT_PRODUCTS, "1")


def saturation_warning(shares: Mapping[str, float]) -> str:
    """What to tell of a model with pairs of weights that are too large, where products saturate."""
    name, most = next(iter(shares.items()))
    return (
        "this CPU has no VNNI, and adds products of 8 bits into 16: results may be wrong. Nodes with pairs of weights "
        f"that are too large for that: {len(shares)}, most of all {name} ({most:.2%} of its pairs). Set exact_products "
        "or reduce_range to true, or weight_type to QUInt8"
    )


def _signed_weights(model: ModelProto) -> Iterator[tuple[NodeProto, TensorProto]]:
    from onnx import TensorProto

    weights = {each.name: each for each in model.graph.initializer if each.data_type == TensorProto.INT8}
    sources = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }  # of a pair around a float operator
    for node in model.graph.node:
        position = WEIGHT_INPUT.get(node.op_type)
        if position is not None and position < len(node.input):
            name = node.input[position]
            if (weight := weights.get(sources.get(name, name))) is not None:
                yield node, weight


def _share(weight: TensorProto, node: NodeProto) -> float:
    """Pairs are neighbours along the axis that is summed over, from the first on."""
    import numpy as np
    from onnx import numpy_helper

    values: NDArray[Any] = numpy_helper.to_array(weight)
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    summed = values if transposed else values.swapaxes(-1, -2)
    even = summed.shape[-1] // 2 * 2
    sums = summed[..., 0:even:2].astype(np.int16) + summed[..., 1:even:2]
    return float(np.mean(np.abs(sums) > LARGEST_SUM)) if sums.size else 0.0

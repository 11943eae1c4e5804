"""GPTQ (Frantar et al. 2022) by ONNX Runtime: the channels of a weight each make up for the error of those before.

Unlike the other algorithms it runs the model, and so holds it in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Dataset, ModelHandle, PreconditionFailed
from hfopt_onnx_model.graph import describe_io, load, save
from hfopt_onnx_model.session import suited
from hfopt_ort_passes.nbits import Recipe
from hfopt_ort_passes.rewriting import Replacement, Target

if TYPE_CHECKING:
    from onnx import ModelProto

COPIES = 3
"""How often weights are in memory at once: the quantizer's, those on their way to a session, and the session's."""

NOTICE = "GPTQ held the whole model in memory; the other algorithms take one weight at a time"


def check_memory(model: ModelHandle) -> None:
    """Refuse what would not fit.

    :raises PreconditionFailed: the model needs more memory than there is
    """
    available = available_bytes()
    if available is not None and COPIES * model.size_bytes > available:
        raise PreconditionFailed(
            f"GPTQ runs the model, and needs {COPIES * model.size_bytes / 1e9:.1f} GB of memory for it; "
            f"{available / 1e9:.1f} GB are available",
            hint="RTN, HQQ, k_quant and DEFAULT take one weight at a time",
        )


def available_bytes(
    meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> int | None:
    """Memory that this process may still take: the machine's, or a container's limit if that is lower.

    :return: None where the system does not say
    """
    try:
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        machine = 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    try:
        return min(machine, int(limit.read_text()))
    except (OSError, ValueError):  # ValueError: it says "max"
        return machine


def quantize(model: Path, outputs: Collection[str], recipe: Recipe, data: Dataset, work: Path) -> ModelProto:
    """Quantize MatMuls by what the rows show of their inputs.

    :param outputs: of the nodes to quantize, one for each weight: of several, chance would decide which counts
    :param data: rows to calibrate with, all of which are held in memory
    :param work: an empty folder for temporary files
    :raises PreconditionFailed: there are no rows, or too few to tell what the inputs are like
    """
    import numpy as np
    from onnxruntime.quantization.neural_compressor import gptq_quantize

    if len(data) == 0:
        raise PreconditionFailed("there are no rows to calibrate with")
    copy = work / "model.onnx"
    loaded = load(model)
    for number, node in enumerate(loaded.graph.node):  # the quantizer knows nodes by their names
        node.name = node.name or f"node_{number}"
    weights = {
        node.name: _node_config(recipe) if node.output[0] in outputs else "fp32"
        for node in loaded.graph.node
        if node.op_type == "MatMul"
    }
    save(loaded, copy)
    del loaded
    inputs, _ = describe_io(copy)
    rows = [(suited(batch.feeds, inputs), None) for batch in data.batches()]
    options = dict(recipe.options)
    try:
        quantized = gptq_quantize(
            str(copy),
            rows,
            weights,
            n_samples=-1,
            blocksize=options.pop("block_size", 128),
            accuracy_level=recipe.accuracy_level,
            **options,
        )
    except np.linalg.LinAlgError as error:
        raise PreconditionFailed(
            f"GPTQ can't invert what the rows say of a weight's inputs: {error}",
            hint="calibrate with more rows, or set percdamp in weight_only_quant_configs to a larger value",
        ) from error
    return quantized.model


def _node_config(recipe: Recipe) -> dict[str, Any]:
    return {
        "bits": recipe.bits,
        "group_size": recipe.block_size,
        "scheme": "sym" if recipe.symmetric else "asym",
    }


def replacements(quantized: ModelProto) -> Callable[[Target, bool], Replacement]:
    """Look up what a node has become in a model that GPTQ has quantized."""
    from onnx import NodeProto

    nodes = {node.output[0]: node for node in quantized.graph.node}
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    first: dict[str, NodeProto] = {}

    def look_up(target: Target, known: bool) -> Replacement:
        if not known:
            first[target.weight.name] = nodes[target.node.output[0]]
        node = NodeProto()
        node.CopyFrom(first[target.weight.name])
        if known:
            node.name, node.input[0], node.output[0] = target.node.name, target.node.input[0], target.node.output[0]
        return Replacement([node], [[tensors[name] for name in node.input if name in tensors]])

    return look_up

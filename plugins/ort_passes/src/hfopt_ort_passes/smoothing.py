"""OrtSmoothQuant: channels of activations that are much larger than the others made smaller, their weights larger.

8 bits of an activation's range are then spread over all of its channels. The graph computes what it did before.
Source: Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hfopt import Config, DataName, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.forecast import MEGABYTE
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import handle_of, load, save
from hfopt_ort_passes.folding import Weights
from hfopt_ort_passes.quiet import quiet, scratch, sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

CONSUMERS = ("Attention", "Gemm", "MatMul")
"""Operators that multiply their first input by a weight, their second."""

SMALLEST = 1e-5
"""Of a channel's largest value: below it is taken for this."""


class OrtSmoothQuantConfig(ExternalDataConfig):
    """Options of ``OrtSmoothQuant``."""

    data_config: DataName = Field(description="Rows that show how large the channels of activations are.")
    calibration_rows: int = Field(128, ge=1, description="How many of the rows, from the first, are looked at.")
    alpha: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How much of the differences between channels goes from activations to weights: s = "
        "max|X|^alpha / max|W|^(1-alpha).",
    )
    fold_only: bool = Field(
        False,
        description="Only activations that the weights of what makes them can divide; false: a Mul divides the others.",
    )


@dataclass(frozen=True)
class Group:
    """The nodes that multiply one activation by weights, and so share its scale.

    :param channels: how many it has
    """

    activation: str
    channels: int
    nodes: tuple[NodeProto, ...]


class OrtSmoothQuant(Pass):
    """Goes before a quantization, and after fusion, which has its own idea of the nodes that it knows."""

    Config: ClassVar[type[Config]] = OrtSmoothQuantConfig
    accepts = frozenset({"ONNXModel"})
    keeps_outputs = True
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = {"alpha": (0.5, 0.25, 0.75)}
    memory: ClassVar[Mapping[str, float]] = {"onnx": 100 * MEGABYTE, "onnxruntime": 60 * MEGABYTE, "copies": 3}
    config: OrtSmoothQuantConfig

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        target = context.folder / f"{context.name}.onnx"
        graph = load(model.path)
        weights = Weights(graph)
        groups = _groups(graph, weights)
        if not groups:
            raise PreconditionFailed(
                "no activation of the model is multiplied by a float32 weight",
                hint="OrtSmoothQuant comes before quantization",
            )
        with quiet(), scratch(context.folder) as work, sentences("the activations can't be looked at"):
            largest = self._largest(model, groups, work, context)
        told = {}
        for number, group in enumerate(groups):
            if (done := self._smooth(group, largest[group.activation], weights, number)) is not None:
                told[group.activation] = done
        if not told:
            raise PreconditionFailed(
                "no activation's scale can be folded into what makes it", hint="set fold_only to false"
            )
        save(graph, target, self.config)
        folded = sum(each["folded"] for each in told.values())
        summary = f"{len(told)} activations smoothed: {folded} by weights, {len(told) - folded} by a Mul"
        return PassResult(handle_of(target, like=model), {"summary": summary, "activations": told})

    def _smooth(self, group: Group, largest: NDArray[Any], weights: Weights, number: int) -> dict[str, Any] | None:
        """Move scale from an activation to the weights that it is multiplied by.

        :param largest: of the activation, by channel
        :return: what to report; None: it stays as it is
        """
        import numpy as np

        rows = [np.abs(row) for node in group.nodes if (row := weights.rows(node)) is not None]
        of_weights = np.max([each.max(axis=1) for each in rows], axis=0)
        scale = smoothing_scale(largest, of_weights, self.config.alpha)
        folded = weights.divide(group.activation, scale, group.nodes)
        if not folded and self.config.fold_only:
            return None
        if not folded:
            weights.divide_by_node(group.activation, scale, group.nodes, f"smooth_{number}")
        for node in group.nodes:
            weights.multiply_rows(node, scale)
        spread = [float(each.max() / max(np.median(each), SMALLEST)) for each in (largest, largest / scale)]
        return {"nodes": len(group.nodes), "folded": folded, "spread": spread}

    def _largest(
        self, model: ModelHandle, groups: list[Group], work: Path, context: PassContext
    ) -> dict[str, NDArray[Any]]:
        """The largest absolute value of each activation's channels, over some rows, padding included.

        :raises PreconditionFailed: there are no rows
        """
        import numpy as np

        data = context.data[self.config.data_config]
        rows = range(min(len(data), self.config.calibration_rows))
        if not rows:
            raise PreconditionFailed("data_config: there are no rows to look at activations of")
        watched, names = _watched(load(model.path), groups)
        path = work / "watched.onnx"
        save(watched, path)
        del watched
        found: dict[str, NDArray[Any]] = {}
        with context.open(handle_of(path, like=model), {}) as session:
            done = 0
            for batch in data.batches(rows):
                outputs = session.run(batch.feeds)
                for name, output in names.items():
                    found[name] = np.maximum(found.get(name, 0.0), outputs[output])
                done += len(batch.rows)
                context.progress("calibrate", done, len(rows))
        return found


def smoothing_scale(largest: NDArray[Any], of_weights: NDArray[Any], alpha: float) -> NDArray[Any]:
    """What each channel of an activation is divided by, and its weights are multiplied by (Xiao et al., equation 4).

    :param largest: absolute values of the activation's channels
    :param of_weights: and of the weights that they are multiplied by
    :return: float64 [channels]; 1 where the activation, or the weight, is always 0
    """
    import numpy as np

    activation, weight = (np.maximum(each.astype(np.float64), SMALLEST) for each in (largest, of_weights))
    scale = activation**alpha / weight ** (1 - alpha)
    return np.where((largest == 0) | (of_weights == 0), 1.0, scale)


def _groups(model: ModelProto, weights: Weights) -> list[Group]:
    """By the activation that they multiply, the nodes that have a weight of their own."""
    found: dict[tuple[str, int], list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type in CONSUMERS and (rows := weights.rows(node)) is not None and weights.of(node, 0) is None:
            found.setdefault((node.input[0], len(rows)), []).append(node)
    return [Group(*activation, tuple(nodes)) for activation, nodes in found.items()]


def _watched(model: ModelProto, groups: list[Group]) -> tuple[ModelProto, dict[str, str]]:
    """A model that yields the largest absolute value of each activation's channels, and nothing else.

    :return: also the names of those outputs, by activation
    """
    from onnx import TensorProto, helper

    graph = model.graph
    of_inputs = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")) >= 18
    axes = {} if of_inputs else {"axes": [0]}
    graph.initializer.append(helper.make_tensor("watched/axes", TensorProto.INT64, [1], [0]))
    names = {group.activation: f"watched/{number}" for number, group in enumerate(groups)}
    del graph.output[:]
    for group in groups:
        output = names[group.activation]
        graph.initializer.append(helper.make_tensor(f"{output}/shape", TensorProto.INT64, [2], [-1, group.channels]))
        inputs = [f"{output}/rows", *(["watched/axes"] if of_inputs else [])]
        graph.node.extend(
            [
                helper.make_node("Abs", [group.activation], [f"{output}/sizes"]),
                helper.make_node("Reshape", [f"{output}/sizes", f"{output}/shape"], [f"{output}/rows"]),
                helper.make_node("ReduceMax", inputs, [output], keepdims=0, **axes),
            ]
        )
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [group.channels]))
    return model, names

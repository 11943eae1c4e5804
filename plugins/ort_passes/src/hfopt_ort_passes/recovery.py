"""OrtAccuracyRecovery: 8 bits for all but the nodes whose quantization moves the outputs too far, found by trial.

How far outputs move when a node alone is quantized ranks the nodes, and the most sensitive stay in float until the goal
is met (Wu et al., Integer Quantization for Deep Learning Inference, 2020, section on partial quantization). Of those as
many as can go back to 8 bits, by delta debugging: each that stays was tried.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hfopt import Config, DataName, Dataset, ModelHandle, PassContext, PassResult, PreconditionFailed, Session
from hfopt.api import text as wording
from hfopt.api.example import MASK
from hfopt_onnx_model.graph import handle_of, outline, save
from hfopt_ort_passes.blocks import blocks, nodes_of
from hfopt_ort_passes.quantization import OnnxQuantization, quantize
from hfopt_ort_passes.quantization_options import DYNAMIC_OPERATORS, STATIC_OPERATORS, OnnxQuantizationConfig
from hfopt_ort_passes.quiet import quiet, scratch, sentences
from hfopt_ort_passes.subsets import Trials, smallest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

    Array = NDArray[np.generic]


class OrtAccuracyRecoveryConfig(OnnxQuantizationConfig):
    """Options of ``OrtAccuracyRecovery``: those of ``OnnxQuantization``, and how far its outputs may be off."""

    compared_data_config: DataName = Field(description="Rows that outputs are compared on; their labels for max_drop.")
    compared_rows: int = Field(128, ge=1, description="How many of the rows, from the first, are compared on.")
    max_distance: float = Field(
        0.1,
        gt=0,
        description="How far an output may be off: the root of its mean square difference, as a part of that of its "
        "mean square.",
    )
    max_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="By what share of the compared rows fewer may be predicted as they are labelled; null: labels "
        "don't matter.",
    )
    max_trials: int = Field(256, ge=2, description="How many sets of nodes are tried, besides each node alone.")


@dataclass(frozen=True)
class Off:
    """How far a model is off.

    :param distance: of the output that is furthest off
    :param drop: share of the rows by which fewer are predicted right; None without classes as labels
    """

    distance: float
    drop: float | None

    def report(self) -> dict[str, float | None]:
        """As JSON; what is not finite is null."""
        return {"distance": self.distance if math.isfinite(self.distance) else None, "drop": self.drop}


class OrtAccuracyRecovery(OnnxQuantization):
    """Quantizes as `OnnxQuantization` does, but for as few nodes as it takes to stay near the float model."""

    Config: ClassVar[type[Config]] = OrtAccuracyRecoveryConfig
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    config: OrtAccuracyRecoveryConfig

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        with quiet(), scratch(context.folder) as work, sentences("ONNX Runtime can't quantize this model"):
            source = self._prepared(model, work)
            graph = outline(source)
            operators = {node.name: node.op_type for node in graph.graph.node}
            nodes = _with_weights(graph, self.config)
            kept, report = self._search(nodes, blocks(graph.graph), self._attempt(model, source, work, context))
        excluded = (*(self.config.nodes_to_exclude or ()), *kept)
        made = OnnxQuantization(self.config.model_copy(update={"nodes_to_exclude": excluded})).run(model, context)
        in_float = wording.counts(Counter(operators[name] for name in kept))
        summary = f"{made.report['summary']}; kept in float: {in_float}"
        return made.with_report({"summary": summary, "recovery": report})

    def _attempt(
        self, model: ModelHandle, source: Path, work: Path, context: PassContext
    ) -> Callable[[Mapping[str, Any]], Off]:
        """What quantizes with some options changed, and tells how far the outputs then are off.

        Of the float model's outputs one batch is in memory at a time: they are written to `work`.
        """
        data = context.data[self.config.compared_data_config]
        rows = range(min(len(data), self.config.compared_rows))
        if not rows:
            raise PreconditionFailed("compared_data_config: there are no rows to compare outputs on")
        ranges = self._calibrate(source, work, context)
        with context.open(model, {}) as session:
            labelled = self.config.max_drop is not None or _has_classes(session, data, rows[:1])
            right = _record(session, data, rows, work, labelled=labelled)
        tried = 0

        def attempt(changed: Mapping[str, Any]) -> Off:
            nonlocal tried
            tried += 1
            context.progress("try", tried, None)
            candidate = work / "candidate.onnx"
            graph = quantize(source, self.config.model_copy(update=changed), ranges)
            large_pairs = self._pairs_too_large(graph)
            save(graph, candidate)
            del graph
            made = self._with_settings(handle_of(candidate, like=model), large_pairs)
            with context.open(made, {}) as session:
                distance, now = _compare(session, data, rows, work, labelled=labelled)
            return Off(distance, (right - now) / len(rows) if labelled else None)

        return attempt

    def _search(
        self, nodes: Sequence[str], block_of: Mapping[str, str], attempt: Callable[[Mapping[str, Any]], Off]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The nodes that stay in float, and how they were found.

        :param block_of: see `blocks`
        :raises PreconditionFailed: the goal is met only without any quantized weight
        """
        written = self.config.nodes_to_exclude or ()

        def without(kept: Sequence[str]) -> tuple[float, float]:
            return self._worst(attempt({"nodes_to_exclude": (*written, *kept)}))

        trials = Trials(without, self.config.max_trials)
        if trials.agrees(()):
            return (), {"kept": [], "trials": trials.report()}
        sensitivity = {name: attempt({"nodes_to_quantize": (name,)}) for name in nodes}
        ranked = sorted(nodes, key=lambda name: -sensitivity[name].distance)
        count = 1
        while count < len(ranked) and not trials.agrees(ranked[:count]):
            count *= 2
        enough = ranked[:count]
        kept = smallest(enough, trials.agrees, lambda: trials.exhausted) if trials.agrees(enough) else tuple(enough)
        if len(kept) == len(nodes):
            raise self._never_met(trials, len(nodes))
        report = {
            "kept": list(kept),
            "each_was_tried": not trials.exhausted,
            "sensitivity": {name: sensitivity[name].report() for name in ranked},
            "blocks": {block: attempt({"nodes_to_quantize": of}).report() for block, of in _by_block(nodes, block_of)},
            "trials": trials.report(),
        }
        return kept, report

    def _worst(self, off: Off) -> tuple[float, float]:
        """What is off and what is allowed: of the predictions if they miss the goal alone, else of the outputs."""
        distance = off.distance, self.config.max_distance
        if off.drop is None or self.config.max_drop is None:
            return distance
        drop = off.drop, self.config.max_drop
        return drop if distance[0] <= distance[1] and drop[0] > drop[1] else distance

    def _never_met(self, trials: Trials, nodes: int) -> PreconditionFailed:
        partly = (off for kept, off in trials.done.items() if len(kept) < nodes or not kept)
        difference, allowed = min(partly, key=lambda each: each[0])
        return PreconditionFailed(
            f"the goal is met with weights of 8 bits by none of {len(trials.done)} sets of nodes in float: at best "
            f"{difference:.3g} off, allowed {allowed:.3g}",
            hint="raise max_distance or max_drop, or leave the model in float",
        )


def _by_block(nodes: Sequence[str], block_of: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """The nodes of each block, in the graph's order; none of a graph whose names tell no blocks."""
    found = dict.fromkeys(block_of[name] for name in nodes if name in block_of)
    return [(block, tuple(name for name in nodes if block_of.get(name) == block)) for block in found]


def _with_weights(model: ModelProto, config: OrtAccuracyRecoveryConfig) -> list[str]:
    """The names of nodes that have a weight of two axes or more, and that the options let be quantized."""
    operators = set(config.op_types_to_quantize or (STATIC_OPERATORS if config.static else DYNAMIC_OPERATORS))
    if "MatMul" in operators:
        operators.add("Gemm")
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    excluded = {*(config.nodes_to_exclude or ()), *nodes_of(model.graph, config.blocks_to_exclude or ())}
    return [
        node.name
        for node in model.graph.node
        if node.name
        and node.op_type in operators
        and node.name not in excluded
        and node.name in (config.nodes_to_quantize or (node.name,))
        and not weights.isdisjoint(node.input)
    ]


def _record(session: Session, data: Dataset, rows: range, folder: Path, *, labelled: bool) -> int:
    """Write what a model yields for each batch into a folder.

    :return: how many rows it predicts as they are labelled
    """
    import numpy as np

    right = 0
    for number, batch in enumerate(data.batches(rows)):
        outputs = session.run(batch.feeds)
        np.savez(folder / f"{number}.npz", *(outputs[name] for name in sorted(outputs)))
        right += _right(data.post_process(outputs), batch.labels) if labelled else 0
    return right


def _compare(session: Session, data: Dataset, rows: range, folder: Path, *, labelled: bool) -> tuple[float, int]:
    """How far the outputs are from those that were recorded, and how many rows are predicted as they are labelled."""
    import numpy as np

    squares: dict[str, NDArray[np.float64]] = {}
    right = 0
    for number, batch in enumerate(data.batches(rows)):
        outputs = session.run(batch.feeds)
        with np.load(folder / f"{number}.npz") as recorded:
            for name, stored in zip(sorted(outputs), recorded.files, strict=True):
                expected, got = (_counted(each, batch.feeds) for each in (recorded[stored], outputs[name]))
                both = np.array([np.sum((got - expected) ** 2), np.sum(expected**2)])
                squares[name] = squares.get(name, np.zeros(2)) + both
        right += _right(data.post_process(outputs), batch.labels) if labelled else 0
    return max(_relative(*each) for each in squares.values()), right


def _relative(difference: float, size: float) -> float:
    """The root of a part of two sums of squares; infinite if that is not a number."""
    if difference == 0:
        return 0.0
    return math.sqrt(difference / size) if size > 0 and math.isfinite(difference) else math.inf


def _counted(output: Array, feeds: Mapping[str, Array]) -> NDArray[np.float64]:
    """What of an output no mask pads, as float64."""
    import numpy as np

    mask = feeds.get(MASK)
    if mask is not None and output.shape[: mask.ndim] == mask.shape:
        output = output[mask.astype(bool)]
    return output.astype(np.float64)


def _has_classes(session: Session, data: Dataset, rows: range) -> bool:
    """Whether some rows have classes as labels, and are predicted as classes."""
    import numpy as np

    batch = next(iter(data.batches(rows)))
    if batch.labels is None or not np.issubdtype(batch.labels.dtype, np.integer):
        return False
    return data.post_process(session.run(batch.feeds)).shape == batch.labels.shape


def _right(predictions: Array, labels: Array | None) -> int:
    """How many rows are predicted as they are labelled.

    :raises PreconditionFailed: labels are none, or no classes
    """
    import numpy as np

    if labels is None:
        raise PreconditionFailed("max_drop: the rows of compared_data_config have no labels", hint="name label_cols")
    if predictions.shape != labels.shape or not np.issubdtype(labels.dtype, np.integer):
        raise PreconditionFailed(
            "max_drop is for rows with a class as label", hint="leave it out: max_distance decides then"
        )
    same = (predictions == labels).reshape(len(labels), -1)
    return int(np.sum(np.all(same, axis=1)))

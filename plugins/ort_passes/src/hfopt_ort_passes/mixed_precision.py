"""OrtMixedPrecision: float16 with as few nodes in float32 as the outputs need to stay within a tolerance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hfopt import Config, DataName, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api import text as wording
from hfopt.api.forecast import MEGABYTE, Weights, with_bits
from hfopt.api.parity import HALF_RELATIVE
from hfopt.api.text import did_you_mean
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import handle_of, load, save
from hfopt_onnx_model.precision import check_takes_half
from hfopt_ort_passes.half import convert, float_nodes, rounded, write_typed
from hfopt_ort_passes.quiet import quiet, scratch, sentences
from hfopt_ort_passes.rewriting import check_names
from hfopt_ort_passes.subsets import Trials, smallest

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from hfopt.api.parity import Example


class OrtMixedPrecisionConfig(ExternalDataConfig):
    """Options of ``OrtMixedPrecision``."""

    tolerance: float = Field(
        HALF_RELATIVE, gt=0, description="Part of an output's largest value by which outputs may differ, plus 1e-5."
    )
    data_config: DataName | None = Field(
        None, description="Rows to compare outputs on; null: random examples of three shapes, some of them padded."
    )
    compared_rows: int = Field(32, ge=1, description="How many of the rows, from the first, are compared on.")
    max_trials: int = Field(64, ge=2, description="How many sets of nodes are tried.")
    op_block_list: tuple[str, ...] | None = Field(
        None, description="Operators that stay in float32 whatever the outputs need; null: none."
    )
    node_block_list: tuple[str, ...] | None = Field(
        None, description="Nodes that stay in float32 whatever the outputs need, by name."
    )
    atol: float | None = Field(
        None,
        ge=0,
        description="Keep the MatMul that yields the first output in float32 if float16 changes one of its weights by "
        "more than this; null: only if the outputs need it.",
    )
    keep_io_types: bool = Field(True, description="Inputs and outputs stay float32.")

    def ignored(self) -> dict[str, str]:
        without_rows = [] if self.data_config else self.written("compared_rows")
        return dict.fromkeys(without_rows, "there is no data_config")


class OrtMixedPrecision(Pass):
    """Converts with ONNX Runtime's tool, and finds by trial which nodes must stay in float32."""

    Config: ClassVar[type[Config]] = OrtMixedPrecisionConfig
    accepts = frozenset({"ONNXModel"})
    memory: ClassVar[Mapping[str, float]] = {
        "onnx": 100 * MEGABYTE,
        "onnxruntime": 60 * MEGABYTE,
        "onnxruntime.transformers": 90 * MEGABYTE,
        "copies": 4,
    }
    config: OrtMixedPrecisionConfig

    def forecast(self, before: Weights) -> Weights:
        return with_bits(before, 16, {kind for kind, (_, bits) in before.items() if bits == 32})

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        target, config = context.folder / f"{context.name}.onnx", self.config
        check_takes_half(
            load(model.path, weights=False),
            config.op_block_list,
            config.node_block_list,
            keep_io_types=config.keep_io_types,
        )
        with quiet(), scratch(context.folder) as work, sentences("ONNX Runtime can't make this model float16"):
            typed = work / "typed.onnx"
            write_typed(model.path, typed, work)
            fixed, free = self._nodes(typed)
            examples = self._examples(model, context)
            trials = Trials(self._attempt(model, typed, fixed, examples, work, context), self.config.max_trials)
            kept = self._search(free, trials)
            half = self._convert(typed, (*fixed, *kept))
            counts = _in_float32(half, {*fixed, *kept}, self.config.op_block_list or ())
            del half.graph.value_info[:]
            save(half, target, self.config)
        report = {
            "summary": f"in float32: {wording.counts(counts)}",
            "float32": {"nodes": [*fixed, *kept], "operators": counts},
            "trials": trials.report(),
        }
        return PassResult(handle_of(target, like=model), report, max(HALF_RELATIVE, self.config.tolerance))

    def _nodes(self, typed: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Nodes that stay in float32 in any case, and those that are free to be either.

        :raises PreconditionFailed: an option names what is not there, or nothing is float32
        """
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

        model = load(typed)
        check_names(model, "node_block_list", self.config.node_block_list or ())
        _check_operators(model, self.config.op_block_list or ())
        nodes = float_nodes(model)
        if not nodes:
            raise PreconditionFailed("no operator of the model yields float32", hint="give this pass the float32 model")
        fixed = list(self.config.node_block_list or ())
        if self.config.atol is not None:
            fixed += _rounded_head(model, self.config.atol)
        blocked = {*DEFAULT_OP_BLOCK_LIST, *(self.config.op_block_list or ())}
        free = [node.name for node in nodes if node.op_type not in blocked and node.name not in fixed]
        return tuple(dict.fromkeys(fixed)), tuple(dict.fromkeys(free))

    def _examples(self, model: ModelHandle, context: PassContext) -> list[Example]:
        from hfopt.api.parity import Example, record

        context.progress("compare", 0, None)
        with context.open(model, {}) as source:
            if self.config.data_config is None:
                return record(source, model.inputs)
            data = context.data[self.config.data_config]
            rows = range(min(len(data), self.config.compared_rows))
            if not rows:
                raise PreconditionFailed("there are no rows to compare outputs on")
            return [Example(batch.feeds, source.run(batch.feeds)) for batch in data.batches(rows)]

    def _attempt(
        self,
        model: ModelHandle,
        typed: Path,
        fixed: tuple[str, ...],
        examples: Sequence[Example],
        work: Path,
        context: PassContext,
    ) -> Callable[[tuple[str, ...]], tuple[float, float]]:
        """What tries a set of nodes: gives the difference of the output that is furthest off, and what is allowed.

        The model is run as it is only if one that shows the effect of float16 on any device is within the tolerance.
        """
        from hfopt.api.parity import compare

        half, shown = work / "half.onnx", work / "rounded.onnx"
        tried = 0

        def furthest(path: Path) -> tuple[float, float]:
            with context.open(handle_of(path, like=model), {}) as candidate:
                outputs = compare(examples, candidate, relative=self.config.tolerance)["outputs"].values()
            worst = max(outputs, key=lambda each: each["difference"] / each["allowed"])
            return worst["difference"], worst["allowed"]

        def attempt(kept: tuple[str, ...]) -> tuple[float, float]:
            nonlocal tried
            tried += 1
            context.progress("try", tried, self.config.max_trials)
            save(self._convert(typed, (*fixed, *kept)), half)
            save(rounded(load(half)), shown)
            difference, allowed = furthest(shown)
            if difference > allowed:
                return difference, allowed
            return max((difference, allowed), furthest(half), key=lambda each: each[0] / each[1])

        return attempt

    def _convert(self, typed: Path, kept: Collection[str]) -> ModelProto:
        operators = self.config.op_block_list or ()
        return convert(load(typed), kept, operators, keep_io_types=self.config.keep_io_types)

    def _search(self, free: tuple[str, ...], trials: Trials) -> tuple[str, ...]:
        """The smallest set found.

        :raises PreconditionFailed: there is none smaller than all of them
        """
        if trials.agrees(()):
            return ()
        if trials.agrees(free):
            kept = smallest(free, trials.agrees, lambda: trials.exhausted)
            if len(kept) < len(free):
                return kept
        partly = [tried for names, tried in trials.done.items() if len(names) < len(free) or not free]
        difference, allowed = min(partly, key=lambda tried: tried[0] / tried[1])
        raise PreconditionFailed(
            f"float16 keeps the outputs within the tolerance for none of {len(trials.done)} sets of nodes in float32; "
            f"at best they differ by {difference:.3g}, allowed {allowed:.3g}",
            hint=f"raise tolerance, which is {self.config.tolerance:g}, or max_trials",
        )


def _rounded_head(model: ModelProto, atol: float) -> list[str]:
    """The node that multiplies by the last weight, if float16 changes that weight by more than `atol`.

    :raises PreconditionFailed: no such node yields the first output
    """
    from onnxruntime.transformers.float16 import float_to_float16_max_diff

    makers = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    head: NodeProto | None = makers.get(model.graph.output[0].name)
    if head is not None and head.op_type == "Add":  # of a bias
        head = next((makers[name] for name in head.input if name in makers), None)
    if head is None or head.op_type not in ("MatMul", "Gemm") or head.input[1] not in weights:
        raise PreconditionFailed(
            f"atol: {model.graph.output[0].name} is not yielded by a MatMul with a weight", hint="leave atol out"
        )
    return [head.name] if float_to_float16_max_diff(weights[head.input[1]]) > atol else []


def _check_operators(model: ModelProto, written: Sequence[str]) -> None:
    """Refuse operators that do not exist; those that this model lacks are let pass."""
    import onnx
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    known = {schema.name for schema in (*get_all_operator_schema(), *onnx.defs.get_all_schemas())}
    known |= {node.op_type for node in model.graph.node}
    for name in written:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise PreconditionFailed(f"op_block_list: there is no operator {name!r}", hint=hint)


def _in_float32(model: ModelProto, names: Collection[str], operators: Collection[str]) -> dict[str, int]:
    """How many nodes of each operator stayed in float32, most first; those without a float16 form left out."""
    kept = (node.op_type for node in model.graph.node if node.name in names or node.op_type in operators)
    return dict(Counter(kept).most_common())

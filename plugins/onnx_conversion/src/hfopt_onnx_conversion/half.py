"""OnnxFloatToFloat16: weights and operators in half precision."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import OptionError
from hfopt.api.forecast import MEGABYTE, Weights, with_bits
from hfopt_onnx_conversion.names import must_have
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from onnx import ModelProto

SMALLEST_HALF, LARGEST_HALF = 5.96e-8, 65504.0


class OnnxFloatToFloat16Config(ExternalDataConfig):
    """Options of ``OnnxFloatToFloat16``."""

    min_positive_val: float = Field(
        1e-7, ge=SMALLEST_HALF, le=LARGEST_HALF, description="Weights nearer to 0 than this, but not 0, become this."
    )
    max_finite_val: float = Field(
        1e4, ge=SMALLEST_HALF, le=LARGEST_HALF, description="Finite weights beyond this become this."
    )
    keep_io_types: bool = Field(False, description="Inputs and outputs stay float32.")
    use_symbolic_shape_infer: bool = Field(
        True,
        description="Find types by ONNX Runtime's inference, which knows fused operators; false: by ONNX's.",
    )
    op_block_list: tuple[str, ...] | None = Field(
        None, description="Operators that stay in float32; null: those that ONNX Runtime lacks in float16."
    )
    node_block_list: tuple[str, ...] | None = Field(
        None,
        description="Nodes that stay in float32, by name; null: those that compute which bucket of distances two "
        "tokens are in, which float16 gets wrong.",
    )

    @model_validator(mode="after")
    def _has_a_range(self) -> OnnxFloatToFloat16Config:
        if self.min_positive_val > self.max_finite_val:
            raise OptionError("min_positive_val", f"is more than max_finite_val, which is {self.max_finite_val:g}")
        return self


class OnnxFloatToFloat16(Pass):
    """Converts with ONNX Runtime's own tool."""

    Config: ClassVar[type[Config]] = OnnxFloatToFloat16Config
    accepts = frozenset({"ONNXModel"})
    accelerator_agnostic = True
    keeps_outputs = True
    memory: ClassVar[Mapping[str, float]] = {
        "onnx": 100 * MEGABYTE,
        "onnxruntime": 60 * MEGABYTE,
        "onnxruntime.transformers": 90 * MEGABYTE,
        "copies": 3,
    }
    config: OnnxFloatToFloat16Config

    def forecast(self, before: Weights) -> Weights:
        return with_bits(before, 16, {kind for kind, (_, bits) in before.items() if bits == 32})

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt_onnx_model.graph import handle_of, load, node_counts, save
        from hfopt_onnx_model.precision import check_takes_half, computes_in_half, tolerance_of
        from hfopt_onnx_model.weights import SMALL, read_in

        target = context.folder / f"{context.name}.onnx"
        graph = load(model.path, weights=False)
        self._check_lists(graph)
        config = self.config
        check_takes_half(graph, config.op_block_list, config.node_block_list, keep_io_types=config.keep_io_types)
        read_in(graph, model.path.parent, below=SMALL)
        add_types(graph, symbolic=self.config.use_symbolic_shape_infer)
        read_in(graph, model.path.parent)
        half = self._convert(graph)
        if not computes_in_half(half):
            raise PreconditionFailed("no weight of the model became float16", hint="see op_block_list")
        report = {"operators": node_counts(half)}
        tolerance = tolerance_of(half)
        save(half, target, self.config)
        return PassResult(handle_of(target, like=model), report, tolerance)

    def _convert(self, graph: ModelProto) -> ModelProto:
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        from hfopt_onnx_model.precision import index_arithmetic

        blocked, kept = self.config.op_block_list, self.config.node_block_list
        model = OnnxModel(
            convert_float_to_float16(
                graph,
                min_positive_val=self.config.min_positive_val,
                max_finite_val=self.config.max_finite_val,
                keep_io_types=self.config.keep_io_types,
                disable_shape_infer=True,
                op_block_list=None if blocked is None else list(blocked),
                node_block_list=index_arithmetic(graph) if kept is None else list(kept),
            )
        )
        model.remove_cascaded_cast_nodes()
        model.remove_useless_cast_nodes()
        model.topological_sort(is_deterministic=True)
        del model.model.graph.value_info[:]
        converted: ModelProto = model.model
        return converted

    def _check_lists(self, graph: ModelProto) -> None:
        """Operators may be any that exist; nodes must be there."""
        import onnx
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

        operators = {schema.name for schema in (*get_all_operator_schema(), *onnx.defs.get_all_schemas())}
        present = {node.op_type for node in graph.graph.node}
        for name in self.config.op_block_list or ():
            must_have("operator", name, present if name not in operators else operators)
        for name in self.config.node_block_list or ():
            must_have("node", name, {node.name for node in graph.graph.node})


def add_types(model: ModelProto, *, symbolic: bool) -> None:
    """Note the type of every tensor in the graph, by which the converter finds where casts are needed.

    :raises PreconditionFailed: the inference fails, with its reason
    """
    import onnx
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    try:
        with _elsewhere():
            inferred = (
                SymbolicShapeInference.infer_shapes(model, auto_merge=True)
                if symbolic
                else onnx.shape_inference.infer_shapes(model)
            )
    except Exception as error:  # the inferences raise whatever the graph makes them meet
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        other = "false" if symbolic else "true"
        raise PreconditionFailed(
            f"the types of the graph can't be inferred: {reason}", hint=f"try use_symbolic_shape_infer: {other}"
        ) from error
    del model.graph.value_info[:]
    for value in inferred.graph.value_info:
        if value.type.tensor_type.elem_type:
            value.type.tensor_type.ClearField("shape")
            model.graph.value_info.append(value)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In a folder of its own: what fails leaves sym_shape_infer_temp.onnx in the current one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(folder)):
        yield

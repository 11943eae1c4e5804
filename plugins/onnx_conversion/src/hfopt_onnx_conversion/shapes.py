"""DynamicToFixedShape: named axes become numbers, which mobile and neural processors need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt_onnx_conversion.names import must_have
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from onnx import ModelProto

Size = Annotated[int, Field(ge=1)]


class DynamicToFixedShapeConfig(ExternalDataConfig):
    """Options of ``DynamicToFixedShape``."""

    dim_param: tuple[str, ...] | None = Field(None, description="Names of axes, such as batch_size.")
    dim_value: tuple[Size, ...] | None = Field(None, description="Their sizes, in the same order.")
    input_name: tuple[str, ...] | None = Field(None, description="Inputs, by name.")
    input_shape: tuple[tuple[Size, ...], ...] | None = Field(None, description="Their shapes, in the same order.")

    @model_validator(mode="after")
    def _pairs(self) -> DynamicToFixedShapeConfig:
        pairs = (
            {"dim_param": self.dim_param, "dim_value": self.dim_value},
            {
                "input_name": self.input_name,
                "input_shape": self.input_shape,
            },
        )
        if not any(value for pair in pairs for value in pair.values()):
            raise ValueError("needs dim_param and dim_value, or input_name and input_shape")
        for pair in pairs:
            first, second = (len(value or ()) for value in pair.values())
            if first != second:
                raise ValueError(f"{' and '.join(pair)} go together: they have {first} and {second} entries")
        return self


class DynamicToFixedShape(Pass):
    """Fixes axes of the inputs and what follows from them; other shapes are then refused by ONNX Runtime."""

    Config: ClassVar[type[Config]] = DynamicToFixedShapeConfig
    accepts = frozenset({"ONNXModel"})
    accelerator_agnostic = True
    keeps_outputs = True
    config: DynamicToFixedShapeConfig

    def requires(self, model: ModelHandle) -> None:
        axes = {axis for spec in model.inputs for axis in spec.axes if isinstance(axis, str)}
        for name in self.config.dim_param or ():
            must_have("axis", name, axes)
        for name in self.config.input_name or ():
            must_have("input", name, {spec.name for spec in model.inputs})

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt_onnx_model.graph import handle_of, load, save
        from hfopt_onnx_model.precision import tolerance_of
        from hfopt_onnx_model.weights import SMALL, read_in

        target = context.folder / f"{context.name}.onnx"
        graph = load(model.path, weights=False)
        read_in(graph, model.path.parent, below=SMALL)
        self._fix(graph)
        tolerance = tolerance_of(graph)
        save(graph, target, self.config, source=model.path.parent)
        made = handle_of(target, like=model)
        shapes = {spec.name: list(spec.axes) for spec in (*made.inputs, *made.outputs)}
        return PassResult(made, {"shapes": shapes}, tolerance)

    def _fix(self, model: ModelProto) -> None:
        import onnx
        from onnxruntime.tools.onnx_model_utils import (
            is_fixed_size_tensor,
            make_dim_param_fixed,
            make_input_shape_fixed,
        )

        for name, size in zip(self.config.dim_param or (), self.config.dim_value or (), strict=True):
            make_dim_param_fixed(model.graph, name, size)
        for name, shape in zip(self.config.input_name or (), self.config.input_shape or (), strict=True):
            try:
                make_input_shape_fixed(model.graph, name, list(shape))
            except ValueError as error:
                raise PreconditionFailed(f"input_shape {list(shape)} does not fit input {name!r}: {error}") from error
        inferred = onnx.shape_inference.infer_shapes(model)
        for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
            if not is_fixed_size_tensor(output) and is_fixed_size_tensor(found):
                output.type.CopyFrom(found.type)

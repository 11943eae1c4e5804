"""ONNX files: reading, writing, what goes in and out. What the other ONNX plugins build on.

Nothing here runs a model.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt import ModelHandle, PreconditionFailed, TensorSpec
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

EXTERNAL_THRESHOLD = 2_000_000_000
"""Bytes of weights above which they go to a file of their own: protobuf ends at 2 GiB."""


def load(path: Path, *, weights: bool = True) -> ModelProto:
    """Read a model.

    :param weights: read external data too
    :raises PreconditionFailed: the file is not an ONNX model, or external data are missing
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=weights)
    except DecodeError as error:
        raise PreconditionFailed(f"{path} is not an ONNX model, or is damaged") from error
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise PreconditionFailed(f"{path}: external data are missing: {error}") from error
    if not model.graph.node:
        raise PreconditionFailed(f"{path} is not an ONNX model, or is damaged")
    return model


def save(model: ModelProto, path: Path, external: ExternalDataConfig | None = None) -> None:
    """Write a model into one file, or its weights beside it; weights of more than 2 GB are always beside it.

    Weights that go beside it are moved out of `model`, so that memory holds them once.

    :param external: how they are written; None: as its defaults say
    """
    import onnx
    from onnx.external_data_helper import set_external_data

    options = external or ExternalDataConfig()
    if not options.save_as_external_data and _weight_bytes(model) < EXTERNAL_THRESHOLD:
        onnx.save(model, str(path))
        return
    name = options.external_data_name or f"{path.name}.data"
    tensors = _external_tensors(model, options)
    for number, tensor in enumerate(tensors):
        # onnx's own names for single files are random
        set_external_data(tensor, name if options.all_tensors_to_one_file else f"{name}.{number:04}")
    for place in {f"{name}.{number:04}" for number in range(len(tensors))} | {name}:
        (path.parent / place).unlink(missing_ok=True)
    onnx.save(model, str(path))


def _external_tensors(model: ModelProto, options: ExternalDataConfig) -> list[TensorProto]:
    """The tensors that go to external data."""
    import onnx

    tensors = list(model.graph.initializer)
    if options.convert_attribute:
        found = (attribute for node in model.graph.node for attribute in node.attribute)
        tensors += [attribute.t for attribute in found if attribute.type == onnx.AttributeProto.TENSOR]
    return [tensor for tensor in tensors if len(tensor.raw_data) >= max(1, options.size_threshold)]


def outgrows_protobuf(model: ModelHandle) -> bool:
    """Whether tools must write this model's intermediate forms as external data.

    From half the threshold: optimizing may write out twice a weight that is used as it is and transposed.
    """
    return model.size_bytes >= EXTERNAL_THRESHOLD / 2


def _weight_bytes(model: ModelProto) -> int:
    """Bytes of all initializers; protobuf itself can't count beyond 2 GiB."""
    return sum(tensor.ByteSize() for tensor in model.graph.initializer)


def model_files(path: Path) -> tuple[Path, ...]:
    """A model's file, then those of its external data.

    :raises PreconditionFailed: one is missing
    """
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    model = load(path, weights=False)
    tensors = [*model.graph.initializer]
    tensors += [a.t for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    places = {ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)}
    files = (path, *(path.parent / place for place in sorted(places)))
    for file in files:
        if not file.is_file():
            raise PreconditionFailed(f"{path}: its weights are in {file.name}, which is missing")
    return files


def describe_io(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model, without reading its weights."""
    graph = load(path, weights=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value) for value in graph.input if value.name not in weights)
    return inputs, tuple(_spec(value) for value in graph.output)


def _spec(value: ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    axes = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"{value.name}_axis_{position}"
        for position, axis in enumerate(tensor.shape.dim)
    )
    return TensorSpec(name=value.name, dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, axes=axes)


def node_counts(model: ModelProto) -> dict[str, int]:
    """How many nodes there are of each operator, most first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def handle_of(path: Path, *, like: ModelHandle) -> ModelHandle:
    """The ONNX model in a file, as what a pass made of another model.

    :param like: gives attributes, companions, settings (if it is an ONNX model too) and the range of integer inputs
    """
    inputs, outputs = describe_io(path)
    ranges = {spec.name: spec.high for spec in like.inputs}
    return ModelHandle(
        type="ONNXModel",
        path=path,
        files=model_files(path),
        companions=like.companions,
        inputs=tuple(spec.model_copy(update={"high": ranges.get(spec.name)}) for spec in inputs),
        outputs=outputs,
        attributes=like.attributes,
        inference_settings=like.inference_settings if like.type == "ONNXModel" else {},
    )

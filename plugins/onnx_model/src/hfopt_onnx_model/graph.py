"""ONNX files: reading, writing, what goes in and out. What the other ONNX plugins build on.

Nothing here runs a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt import ModelHandle, PreconditionFailed, TensorSpec
from hfopt.api.files import regular_file
from hfopt_onnx_model import wire
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.weights import (
    MOST_AXES,
    Later,
    blocks_of,
    bring_in,
    check_size,
    data_of,
    is_dtype,
    leave_out,
    move_out,
    must_stay_inside,
    read_in,
    span,
    tensors,
    weight_bytes,
)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

EXTERNAL_THRESHOLD = 2_000_000_000
"""Bytes of weights above which they go to a file of their own: protobuf ends at 2 GiB."""

SMALL = 1024
"""Bytes of a weight that an outline may have: shapes, axes, scalars."""

FILE_LIMIT = 2**31 - 2**20
"""Bytes that weights may have inside a model's file; the rest is for its nodes."""


def load(path: Path, *, weights: bool = True) -> ModelProto:
    """Read a model.

    :param weights: read external data too
    :raises PreconditionFailed: the file is not an ONNX model, or external data are missing or truncated
    """
    import onnx

    model = _read(path, lambda: onnx.load(str(path), load_external_data=False))
    if weights:
        read_in(model, path.parent)
    return model


def outline(path: Path) -> ModelProto:
    """A model whose larger initializers are external data, if need be of its own file: it takes little memory.

    :raises PreconditionFailed: as `load`
    """
    return _read(path, lambda: wire.referring(path, SMALL))


def _read(path: Path, read: Callable[[], ModelProto]) -> ModelProto:
    from google.protobuf.message import DecodeError

    try:
        if (size := regular_file(path).st_size) >= 2**31:
            raise PreconditionFailed(f"{path} has {size} bytes, and an ONNX file has less than 2 GiB")
        model = read()
    except DecodeError as error:
        raise PreconditionFailed(f"{path} is not an ONNX model, or is damaged") from error
    except OSError as error:
        raise PreconditionFailed(f"{path} can't be read: {error.strerror}") from error
    if not model.graph.node:
        raise PreconditionFailed(f"{path} is not an ONNX model, or is damaged")
    return model


def save(
    model: ModelProto,
    path: Path,
    external: ExternalDataConfig | None = None,
    *,
    source: Path | None = None,
    later: Mapping[str, Later] | None = None,
) -> None:
    """Write a model into one file, or its weights beside it; weights of more than 2 GB are always beside it.

    What goes beside it is written one tensor at a time and moved out of `model`, so that memory holds it once; of
    initializers that have their data elsewhere it holds one block at a time.

    :param external: how they are written; None: as its defaults say
    :param source: another folder, where the external data lie of a model that was loaded without them, in other files
        than `path`
    :param later: data of initializers that have none, by name
    :raises PreconditionFailed: more is left inside than a file can hold
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    options = external or ExternalDataConfig()
    folder = source or path.parent
    later = later or {}
    size = weight_bytes(model, folder) + sum(each.size for each in later.values())
    beside = options.save_as_external_data or size >= EXTERNAL_THRESHOLD
    name = options.external_data_name or f"{path.name}.data"
    written, initializers, inside = 0, len(model.graph.initializer), dict[int, Later]()
    for number, (tensor, in_a_node) in enumerate(tensors(model)):  # the graph's initializers are the first
        can_leave = (
            beside and tensor.data_type != onnx.TensorProto.STRING and (options.convert_attribute or not in_a_node)
        )
        elsewhere = tensor.name in later and not in_a_node
        if not can_leave and not elsewhere and not uses_external_data(tensor):
            continue
        data = later[tensor.name] if elsewhere else _stored(tensor, folder)
        large = data.size >= max(1, options.size_threshold) and not must_stay_inside(tensor, data.size)
        if can_leave and large:
            place = name if options.all_tensors_to_one_file else f"{name}.{written:04}"
            move_out(tensor, data.read(), path.parent / place, append=options.all_tensors_to_one_file and written > 0)
            written += 1
        elif number < initializers and data.size > SMALL:
            leave_out(tensor)
            inside[number] = data
        else:
            bring_in(tensor, b"".join(data.read()))
    total = sum(tensor.ByteSize() for tensor, _ in tensors(model)) + sum(each.size for each in inside.values())
    if total >= FILE_LIMIT:
        raise PreconditionFailed(
            f"{total} bytes of weights would stay in {path.name}, and a file of this format holds {FILE_LIMIT}",
            hint="lower size_threshold, or set convert_attribute",
        )
    if inside:
        wire.write(model, path, inside)
    else:
        onnx.save(model, str(path))


def _stored(tensor: TensorProto, folder: Path) -> Later:
    from onnx.external_data_helper import uses_external_data

    if uses_external_data(tensor):
        place = span(tensor, folder)
        return Later(place[2], partial(blocks_of, *place))
    data = data_of(tensor, folder)
    return Later(len(data), lambda: [data])


def look_at(path: Path) -> tuple[tuple[Path, ...], tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What somebody else's model consists of, takes and returns.

    :return: its files, as `model_files`; its inputs and outputs
    :raises PreconditionFailed: it is damaged, as far as that can be seen without reading its weights
    """
    model = outline(path)
    for tensor, _ in tensors(model):
        check_size(tensor, path)
    inputs, outputs = _io(model.graph, path)
    if not outputs:
        raise PreconditionFailed(f"{path} is not an ONNX model, or is damaged: it has no outputs")
    return _files(model, path), inputs, outputs


def model_files(path: Path) -> tuple[Path, ...]:
    """A model's file, then those of its external data.

    :raises PreconditionFailed: one is missing, truncated, or outside the model's folder
    """
    return _files(outline(path), path)


def _files(model: ModelProto, path: Path) -> tuple[Path, ...]:
    from onnx.external_data_helper import uses_external_data

    stored = [tensor for tensor, _ in tensors(model) if uses_external_data(tensor)]
    return (path, *sorted({span(tensor, path.parent)[0] for tensor in stored} - {path}))


def describe_io(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model, without reading its weights."""
    return _io(outline(path).graph, path)


def _io(graph: GraphProto, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value, path) for value in graph.input if value.name not in weights)
    return inputs, tuple(_spec(value, path) for value in graph.output)


def _spec(value: ValueInfoProto, path: Path) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not is_dtype(tensor.elem_type):
        raise PreconditionFailed(f"{path}: {value.name!r}, an input or output, is no tensor of a dtype that ONNX knows")
    if len(tensor.shape.dim) > MOST_AXES:
        raise PreconditionFailed(
            f"{path}: {value.name!r} has {len(tensor.shape.dim)} axes; arrays have at most {MOST_AXES}"
        )
    axes = tuple(
        axis.dim_value  # -1 is some exporters' way to say that it is dynamic
        if axis.HasField("dim_value") and axis.dim_value >= 0
        else axis.dim_param or f"{value.name}_axis_{position}"
        for position, axis in enumerate(tensor.shape.dim)
    )
    return TensorSpec(name=value.name, dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, axes=axes)


def clean(model: ModelProto) -> None:
    """Remove what an exporter notes of the source code: paths of this machine, bytes that differ between exports."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    for function in model.functions:
        function.ClearField("metadata_props")
        for node in function.node:
            _clean_node(node)
    _clean_graph(model.graph)


def _clean_graph(graph: GraphProto) -> None:
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    for node in graph.node:
        _clean_node(node)


def _clean_node(node: NodeProto) -> None:
    import onnx

    node.ClearField("doc_string")
    node.ClearField("metadata_props")
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            _clean_graph(attribute.g)


def node_counts(model: ModelProto) -> dict[str, int]:
    """How many nodes there are of each operator, most first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def handle_of(path: Path, *, like: ModelHandle) -> ModelHandle:
    """The ONNX model in a file, as what a pass made of another model.

    :param like: gives attributes, companions, settings (if it is an ONNX model too), and how to make examples
    """
    model = outline(path)
    inputs, outputs = _io(model.graph, path)
    told = {spec.name: spec.model_dump(include={"high", "scale", "last"}) for spec in like.inputs}
    return ModelHandle(
        type="ONNXModel",
        path=path,
        files=_files(model, path),
        companions=like.companions,
        inputs=tuple(spec.model_copy(update=told.get(spec.name, {})) for spec in inputs),
        outputs=outputs,
        attributes=like.attributes,
        inference_settings=like.inference_settings if like.type == "ONNXModel" else {},
    )

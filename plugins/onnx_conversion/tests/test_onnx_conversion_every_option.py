"""Every option of every pass has a proof: it reaches the graph or PyTorch, or a sentence refuses it."""

from __future__ import annotations

import onnx
import pytest
import torch

from hfopt import Accelerator, ModelHandle, PassContext, PreconditionFailed, TensorSpec
from hfopt.testing import validate
from hfopt_hf_model_loader.session import TorchSession
from hfopt_onnx_conversion.conversion import OnnxConversion, OnnxConversionConfig
from hfopt_onnx_conversion.half import OnnxFloatToFloat16, OnnxFloatToFloat16Config
from hfopt_onnx_conversion.opset import OnnxOpVersionConversion
from hfopt_onnx_conversion.shapes import DynamicToFixedShape
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import handle_of
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

FILES = dict.fromkeys(ExternalDataConfig.model_fields, "test_every_option_of_external_data_is_obeyed")
LISTS = "test_operators_and_nodes_on_the_lists_stay_in_float32"
PROOFS = {
    "OnnxConversion": FILES
    | {
        "target_opset": "test_another_opset_can_be_asked_for",
        "use_dynamo_exporter": "test_the_exporter_that_is_asked_for_is_the_only_one_that_is_tried",
        "torch_dtype": "test_half_precision_is_exported_by_a_cast_and_compared_to_its_tolerance",
        "device": "test_what_this_version_does_not_convert_is_refused",
        "merge_components": "test_what_this_version_does_not_convert_is_refused",
        "merge_adapter_weights": "test_what_changes_nothing_is_a_notice",
        "save_metadata_for_token_generation": "test_what_changes_nothing_is_a_notice",
        "past_key_value_name": "test_what_changes_nothing_is_a_notice",
        "parallel_jobs": "test_what_changes_nothing_is_a_notice",
        "user_script": "test_what_changes_nothing_is_a_notice",
        "script_dir": "test_what_changes_nothing_is_a_notice",
    },
    "OnnxOpVersionConversion": FILES
    | {"target_opset": "test_the_opset_becomes_what_was_asked_and_everything_else_stays"},
    "OnnxFloatToFloat16": FILES
    | {
        "min_positive_val": "test_weights_are_kept_away_from_zero_and_infinity",
        "max_finite_val": "test_weights_are_kept_away_from_zero_and_infinity",
        "keep_io_types": "test_inputs_and_outputs_can_keep_their_types",
        "use_symbolic_shape_infer": "test_the_inference_of_types_is_the_one_that_is_written",
        "op_block_list": LISTS,
        "node_block_list": LISTS,
    },
    "DynamicToFixedShape": FILES
    | {
        "dim_param": "test_named_axes_become_sizes_in_inputs_and_outputs",
        "dim_value": "test_named_axes_become_sizes_in_inputs_and_outputs",
        "input_name": "test_shapes_of_inputs_fix_the_same_axes_of_the_others",
        "input_shape": "test_shapes_of_inputs_fix_the_same_axes_of_the_others",
    },
    "OptimumMerging": dict.fromkeys(FILES, "test_weights_go_beside_the_merged_graph_as_options_say")
    | {"strict": "test_steps_that_do_not_go_together_are_refused_whatever_strict_says"},
}
"""Pass, option, and the test that shows what becomes of it."""


def refusals(model, options) -> list[tuple[str, str]]:
    problems = []
    validate(model, options, (), problems)
    return [(".".join(map(str, problem.path)), problem.message) for problem in problems]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "this version converts on the CPU"),
        ({"merge_components": True}, "not available in this version: components stay graphs of their own"),
        ({"parallel_jobs": 0}, "must be at least 1"),
        ({"target_opset": "newest"}, "expected an integer, got a string"),
    ],
)
def test_what_this_version_does_not_convert_is_refused(options, message):
    assert refusals(OnnxConversionConfig, options) == [(next(iter(options)), message)]


def test_what_changes_nothing_is_a_notice():
    written = {"past_key_value_name": "pkv", "parallel_jobs": 4, "user_script": "a.py", "script_dir": "scripts"}
    written |= {"merge_adapter_weights": True, "save_metadata_for_token_generation": True}

    assert OnnxConversionConfig(**written).ignored() == {
        "past_key_value_name": "keys and values are called past_key_values.N.key and present.N.key, "
        "as optimum calls them",
        "parallel_jobs": "there is one graph",
        "user_script": "this pass runs no user code",
        "script_dir": "this pass runs no user code",
        "merge_adapter_weights": "adapters are merged when a model is loaded",
        "save_metadata_for_token_generation": "config, generation_config and tokenizer travel with every model",
    }


def test_a_range_of_weights_without_anything_in_it_is_refused():
    assert refusals(OnnxFloatToFloat16Config, {"min_positive_val": 1.0, "max_finite_val": 0.1}) == [
        ("min_positive_val", "is more than max_finite_val, which is 0.1")
    ]


def test_the_inference_of_types_is_the_one_that_is_written(converted, apply, tmp_path):
    """An operator that no one knows stops ONNX Runtime's inference; ONNX's passes over it."""
    model = onnx.load(str(converted.path))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.domain = "Unheard", "nowhere"
    model.opset_import.add(domain="nowhere", version=1)
    onnx.save(model, str(tmp_path / "unheard.onnx"))
    unheard = converted.with_(path=tmp_path / "unheard.onnx")

    with pytest.raises(PreconditionFailed, match="the types of the graph can't be inferred: "):
        apply(OnnxFloatToFloat16, unheard, parity=None)
    passed = apply(OnnxFloatToFloat16, unheard, parity=None, use_symbolic_shape_infer=False)

    assert passed.report["operators"]["Unheard"] == 1


def convert(source, folder, **options) -> ModelHandle:
    def open_any(model, settings):
        if model.type == "PyTorchModel":
            return TorchSession(source.live, source.inputs)
        return ONNXModel(ONNXModelConfig()).open(model, Accelerator(), {"threads": 1})

    folder.mkdir()
    handle = ModelHandle(type="PyTorchModel", path=folder, files=(), inputs=source.inputs)
    context = PassContext(folder, Accelerator(), 1, 0, {}, open_any, None, lambda *_: None)
    return OnnxConversion(OnnxConversionConfig(**options)).run(handle, context).model


@pytest.fixture(scope="module")
def with_constant(converted, tmp_path_factory):
    """The model with a tensor of 25 kB that is an attribute."""
    model = onnx.load(str(converted.path))
    ones = onnx.helper.make_tensor("ones", onnx.TensorProto.FLOAT, [80, 80], [1.0] * 6400)
    model.graph.node.extend(
        [
            onnx.helper.make_node("Constant", [], ["constant"], "constant", value=ones),
            onnx.helper.make_node("ReduceMax", ["logits"], ["most"], "most", keepdims=0),
            onnx.helper.make_node("Mul", ["constant", "most"], ["spread"], "spread"),
        ]
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("spread", onnx.TensorProto.FLOAT, [80, 80]))
    path = tmp_path_factory.mktemp("constant") / "model.onnx"
    onnx.save(model, str(path))
    return handle_of(path, like=converted)


WRITERS = {
    "OnnxOpVersionConversion": (OnnxOpVersionConversion, {"target_opset": 18}),
    "OnnxFloatToFloat16": (OnnxFloatToFloat16, {}),
    "DynamicToFixedShape": (DynamicToFixedShape, {"dim_param": ("batch_size",), "dim_value": (2,)}),
}


def stored(model) -> tuple[list[int], int]:
    """Bytes of the tensors that lie beside a model, and how many of them are attributes."""
    graph = onnx.load(str(model.path), load_external_data=False).graph
    attributes = [each.t for node in graph.node for each in node.attribute if each.HasField("t")]
    lengths = [
        int(entry.value)
        for tensor in (*graph.initializer, *attributes)
        for entry in tensor.external_data
        if entry.key == "length"
    ]
    return lengths, sum(bool(tensor.external_data) for tensor in attributes)


@pytest.mark.parametrize("name", ["OnnxConversion", *WRITERS])
def test_every_option_of_external_data_is_obeyed(name, bert, with_constant, apply, tmp_path):
    def write(**files) -> ModelHandle:
        if name == "OnnxConversion":
            return convert(bert, tmp_path / f"converted{len(list(tmp_path.iterdir()))}", **files)
        work, options = WRITERS[name]
        return apply(work, with_constant, **options, **files).model

    least = 4 if name == "OnnxConversion" else 1_000  # the attributes of an exported graph are small
    inside = write()
    beside = write(save_as_external_data=True, external_data_name="w.bin", size_threshold=least)
    many = write(save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=least)
    with_attributes = write(save_as_external_data=True, convert_attribute=True, size_threshold=least)

    lengths, attributes = stored(beside)
    assert [path.name for path in inside.files] == ["model.onnx"]
    assert [path.name for path in beside.files] == ["model.onnx", "w.bin"]
    assert (min(lengths) >= least, attributes) == (True, 0)
    assert len(many.files) == 1 + len(lengths)
    assert stored(with_attributes)[1] > 0


def test_the_exporter_that_is_asked_for_is_the_only_one_that_is_tried(tmp_path):
    class Untraceable(torch.nn.Module):
        def forward(self, input_ids):
            if torch.jit.is_tracing():
                raise ValueError("this model reads its input in Python")
            return {"logits": input_ids.float() * 2}

    specs = (TensorSpec(name="input_ids", dtype="int64", axes=("batch_size", "sequence_length"), high=30),)

    with pytest.raises(PreconditionFailed) as failure:
        convert(TorchSession(Untraceable(), specs), tmp_path / "out", use_dynamo_exporter=False)

    assert failure.value.message == (
        "the model can't be exported: torchscript failed: ValueError: this model reads its input in Python"
    )

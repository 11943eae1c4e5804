"""Every option of every pass has a proof: it reaches the graph or ONNX Runtime, or a sentence refuses it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest

from hfopt import Accelerator, PreconditionFailed
from hfopt.testing import Plugins, validate
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import handle_of, load
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer
from hfopt_ort_passes.mixed_precision import OrtMixedPrecision
from hfopt_ort_passes.quantization import OnnxDynamicQuantization, OnnxQuantization, OnnxStaticQuantization
from hfopt_ort_passes.smoothing import OrtSmoothQuant
from hfopt_ort_passes.tuning import OrtPerfTuning

SCRIPTS = dict.fromkeys(
    ("data_dir", "dataloader_func", "dataloader_func_kwargs", "user_script", "script_dir"),
    "test_what_goes_with_a_function_is_of_no_effect_without_it",
)
FILES = dict.fromkeys(ExternalDataConfig.model_fields, "test_every_option_of_external_data_is_obeyed")
OF_BOTH_MODES = FILES | {
    "quant_mode": "test_what_does_not_go_together_or_is_unknown_is_refused",
    "weight_type": "test_unsigned_weights_and_seven_bits_can_be_asked_for",
    "per_channel": "test_each_output_channel_has_a_scale_unless_told_otherwise",
    "reduce_range": "test_unsigned_weights_and_seven_bits_can_be_asked_for",
    "exact_products": "test_sessions_are_told_to_be_exact_where_products_can_saturate",
    "quant_preprocess": "test_the_preparation_can_be_left_out",
    "op_types_to_quantize": "test_nodes_and_operators_can_be_chosen",
    "nodes_to_quantize": "test_nodes_are_chosen_by_name",
    "nodes_to_exclude": "test_nodes_are_chosen_by_name",
    "blocks_to_exclude": "test_weights_of_excluded_blocks_stay_in_float_and_all_others_do_not",
    "WeightSymmetric": "test_weights_are_symmetric_or_not",
    "MatMulConstBOnly": "test_products_of_activations_are_quantized_if_told_so",
    "EnableSubgraph": "test_the_inside_of_a_branch_is_quantized_if_told_so",
    "ForceQuantizeNoInputCheck": "test_operators_that_only_move_data_are_quantized_if_told_so",
    "extra_options": "test_extra_options_reach_onnxruntime",
}
OF_STATIC_MODE = {
    "data_config": "test_ranges_of_activations_are_those_that_running_the_model_shows",
    "calibrate_method": "test_ranges_of_histograms_are_near_those_of_all_data_at_once",
    "quant_format": "test_integer_operators_can_be_asked_for_instead_of_pairs",
    "activation_type": "test_activations_are_symmetric_or_not_and_of_the_type_written",
    "ActivationSymmetric": "test_activations_are_symmetric_or_not_and_of_the_type_written",
    "extra.Sigmoid.nnapi": "test_the_range_of_a_sigmoid_is_fixed_if_told_so",
    "batch_size": "test_what_changes_nothing_is_a_notice",
    "prepare_qnn_config": "test_what_does_not_go_together_or_is_unknown_is_refused",
    "qnn_extra_options": "test_what_does_not_go_together_or_is_unknown_is_refused",
}
PROOFS = {
    "OrtTransformersOptimization": FILES
    | {
        "model_type": "test_the_optimizer_is_the_one_that_is_written",
        "num_heads": "test_written_sizes_fuse_the_attention_of_a_model_that_does_not_state_them",
        "hidden_size": "test_written_sizes_fuse_the_attention_of_a_model_that_does_not_state_them",
        "num_key_value_heads": "test_heads_of_keys_and_values_that_the_graph_has_not_are_refused",
        "optimization_options": "test_every_switch_reaches_onnxruntime",
        "opt_level": "test_what_onnxruntime_optimizes_beforehand_folds_constants",
        "use_gpu": "test_optimizing_beforehand_and_the_gpu_go_together",
        "only_onnxruntime": "test_onnx_runtime_alone_fuses_at_higher_levels",
        "float16": "test_half_precision_halves_the_file_and_computes_nearly_the_same",
        "keep_io_types": "test_outputs_are_half_too_if_told_so",
        "force_fp32_ops": "test_operators_and_nodes_stay_in_float32_if_told_so",
        "force_fp32_nodes": "test_operators_and_nodes_stay_in_float32_if_told_so",
        "force_fp16_inputs": "test_inputs_are_half_all_the_same_if_told_so",
        "use_gqa": "test_attention_with_a_cache_is_grouped_unless_told_otherwise",
        "input_int32": "test_integer_inputs_can_be_int32",
        "narrow_to_one_token": "test_a_classifiers_last_layer_is_narrowed_behind_its_attention_alone",
    },
    "OnnxQuantization": SCRIPTS | OF_BOTH_MODES | OF_STATIC_MODE,
    "OnnxStaticQuantization": SCRIPTS | OF_BOTH_MODES | OF_STATIC_MODE,
    "OnnxDynamicQuantization": OF_BOTH_MODES,
    "OrtAccuracyRecovery": SCRIPTS
    | OF_BOTH_MODES
    | OF_STATIC_MODE
    | {
        "compared_data_config": "test_exactly_the_nodes_whose_quantization_ruins_the_outputs_stay_in_float",
        "compared_rows": "test_as_many_rows_and_sets_are_tried_as_the_options_say",
        "max_distance": "test_no_node_can_go_back_to_8_bits_without_missing_the_goal",
        "max_drop": "test_labels_decide_where_a_drop_is_written",
        "max_trials": "test_as_many_rows_and_sets_are_tried_as_the_options_say",
    },
    "OrtSmoothQuant": FILES
    | {
        "data_config": "test_scales_are_those_of_the_paper",
        "calibration_rows": "test_as_many_rows_are_looked_at_as_the_options_say",
        "alpha": "test_scales_are_those_of_the_paper",
        "fold_only": "test_what_others_use_too_is_divided_by_a_mul_or_left",
    },
    "OnnxMatMul4Quantizer": SCRIPTS
    | FILES
    | {
        "algorithm": "test_nodes_and_tensors_are_those_of_onnx_runtimes_quantizer",
        "bits": "test_options_reach_the_nodes",
        "block_size": "test_options_reach_the_nodes",
        "is_symmetric": "test_nodes_and_tensors_are_those_of_onnx_runtimes_quantizer",
        "accuracy_level": "test_options_reach_the_nodes",
        "nodes_to_exclude": "test_a_weight_that_is_needed_elsewhere_stays",
        "op_types_to_quantize": "test_embeddings_are_quantized_when_asked_for_and_the_opset_stays",
        "quant_axes": "test_embeddings_are_quantized_when_asked_for_and_the_opset_stays",
        "weight_only_quant_configs": "test_symmetry_and_ratios_reach_the_tensors",
        "data_config": "test_gptq_gives_what_onnx_runtimes_quantizer_gives",
    },
    "OrtMixedPrecision": FILES
    | {
        "tolerance": "test_what_can_not_be_done_is_said",
        "data_config": "test_the_users_rows_decide_what_must_stay",
        "compared_rows": "test_the_users_rows_decide_what_must_stay",
        "max_trials": "test_the_number_of_trials_is_bounded_and_the_smallest_set_so_far_is_taken",
        "op_block_list": "test_operators_and_nodes_can_be_kept_whatever_the_outputs_need",
        "node_block_list": "test_operators_and_nodes_can_be_kept_whatever_the_outputs_need",
        "atol": "test_atol_keeps_the_head_if_its_weights_change_by_more",
        "keep_io_types": "test_inputs_and_outputs_become_float16_when_asked_for",
    },
    "OrtPerfTuning": SCRIPTS
    | {
        "data_config": "test_rows_are_those_of_the_data_and_examples_have_the_batch_size_that_is_written",
        "batch_size": "test_rows_are_those_of_the_data_and_examples_have_the_batch_size_that_is_written",
        "input_names": "test_examples_are_made_of_exactly_the_inputs_that_are_written",
        "input_shapes": "test_examples_are_made_of_exactly_the_inputs_that_are_written",
        "input_types": "test_examples_are_made_of_exactly_the_inputs_that_are_written",
        "device": "test_a_device_that_is_not_the_accelerators_is_refused",
        "cpu_cores": "test_cpu_cores_limits_the_default_too",
        "io_bind": "test_the_saved_settings_are_those_of_the_session_that_opens_it",
        "enable_cuda_graph": "test_mistakes_are_refused_at_their_place",
        "providers_list": "test_a_provider_of_the_list_may_have_options_of_its_own",
        "force_evaluate_other_eps": "test_another_provider_is_tried_if_that_is_forced",
        "trt_fp16_enable": "test_float16_of_tensorrt_is_an_option_of_tensorrt_or_refused",
        "execution_mode_list": "test_written_threads_modes_and_levels_are_obeyed",
        "opt_level_list": "test_written_threads_modes_and_levels_are_obeyed",
        "intra_thread_num_list": "test_written_threads_modes_and_levels_are_obeyed",
        "inter_thread_num_list": "test_written_threads_modes_and_levels_are_obeyed",
        "extra_session_config": "test_the_saved_settings_are_those_of_the_session_that_opens_it",
        "enable_profiling": "test_a_profile_of_the_saved_setting_goes_into_the_steps_folder",
    },
}
"""Pass, option, and the test that shows what becomes of it."""


def passes():
    """The passes that this plugin declares."""
    offers = Plugins.discover().of_kind("hfopt_passes")
    return {
        registered.component.name: registered.load()
        for registered in offers
        if registered.distribution == "hfopt-ort-passes"
    }


NEEDED = {
    "OnnxStaticQuantization": {"data_config": "rows"},
    "OrtAccuracyRecovery": {"compared_data_config": "rows"},
    "OrtSmoothQuant": {"data_config": "rows"},
}


@pytest.mark.parametrize("name", [name for name, proofs in PROOFS.items() if "user_script" in proofs])
@pytest.mark.parametrize("option", SCRIPTS)
def test_what_goes_with_a_function_is_of_no_effect_without_it(name, option):
    written = {"x": 1} if option.endswith("kwargs") else "x"
    config = passes()[name].Config.model_validate_json(json.dumps({**NEEDED.get(name, {}), option: written}))

    assert config.ignored()[option] == "there is no dataloader_func"


STATIC = "it is for static mode, and quant_mode is dynamic"


@pytest.mark.parametrize(
    ("work", "options", "ignored"),
    [
        (OnnxQuantization, {"data_config": "rows", "batch_size": 4}, {"batch_size": "the data config has its own"}),
        (
            OnnxQuantization,
            {
                "quant_mode": "dynamic",
                "data_config": "rows",
                "calibrate_method": "Entropy",
                "quant_format": "QOperator",
                "activation_type": "QInt8",
                "ActivationSymmetric": True,
                "extra.Sigmoid.nnapi": True,
            },
            dict.fromkeys(
                (
                    "data_config",
                    "calibrate_method",
                    "quant_format",
                    "activation_type",
                    "ActivationSymmetric",
                    "extra.Sigmoid.nnapi",
                ),
                STATIC,
            ),
        ),
        (OnnxQuantization, {"batch_size": 4}, {"batch_size": STATIC}),
        (
            OrtTransformersOptimization,
            {"only_onnxruntime": True, "opt_level": 1, "model_type": "bert", "num_heads": 4, "hidden_size": 64},
            dict.fromkeys(("model_type", "num_heads", "hidden_size"), "only_onnxruntime leaves out the fusions"),
        ),
        (OrtTransformersOptimization, {"keep_io_types": False}, {"keep_io_types": "it is of no use without float16"}),
        (OnnxMatMul4Quantizer, {"data_config": "rows"}, {"data_config": "only GPTQ calibrates"}),
        (
            OnnxMatMul4Quantizer,
            {"quant_axes": {"Gather": 0}},
            {"quant_axes": "Gather is not in op_types_to_quantize"},
        ),
        (OrtMixedPrecision, {"compared_rows": 5}, {"compared_rows": "there is no data_config"}),
        (
            OrtPerfTuning,
            {"force_evaluate_other_eps": True, "execution_mode_list": [0], "inter_thread_num_list": [2]},
            {
                "force_evaluate_other_eps": "there is no providers_list",
                "inter_thread_num_list": "there are threads between operators in parallel mode only",
            },
        ),
    ],
)
def test_what_changes_nothing_is_a_notice(work, options, ignored):
    config = work.Config.model_validate_json(json.dumps(options))

    assert config.ignored() == ignored


def test_a_static_option_without_rows_is_refused():
    problems = []

    validate(OnnxQuantization.Config, {"extra.Sigmoid.nnapi": True}, (), problems)

    assert [(problem.path, problem.message) for problem in problems] == [
        (("extra.Sigmoid.nnapi",), "is for static mode, which needs a data_config to calibrate with")
    ]


def test_a_neural_processor_of_qualcomm_gets_statically_quantized_models_only(converted, context):
    qnn = Accelerator(device="npu", execution_provider="QNNExecutionProvider")

    with pytest.raises(PreconditionFailed) as failure:
        OnnxDynamicQuantization(OnnxDynamicQuantization.Config()).run(
            converted, dataclasses.replace(context, accelerator=qnn)
        )

    assert failure.value.message == "QNNExecutionProvider runs models that were quantized statically"
    assert failure.value.hint == "name a data_config"


# -- external data -----------------------------------------------------------------------------------------------------

WRITERS = {
    "fusion": (OrtTransformersOptimization, {}),
    "dynamic": (OnnxDynamicQuantization, {"quant_preprocess": False}),
    "static": (OnnxStaticQuantization, {"data_config": "rows", "quant_preprocess": False}),
    "4 bits": (OnnxMatMul4Quantizer, {}),
    "smoothing": (OrtSmoothQuant, {"data_config": "rows", "fold_only": False}),
    "mixed precision": (OrtMixedPrecision, {}),
}


def stored(model) -> tuple[dict[str, int], int]:
    """Bytes of the tensors that lie beside a model, by number and name, and how many of them are attributes."""
    graph = onnx.load(str(model.path), load_external_data=False).graph
    attributes = [each.t for node in graph.node for each in node.attribute if each.HasField("t")]
    beside = [tensor for tensor in (*graph.initializer, *attributes) if tensor.external_data]
    sizes = {
        f"{number} {tensor.name}": int(np.prod(tensor.dims))
        * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for number, tensor in enumerate(beside)
    }
    return sizes, sum(bool(tensor.external_data) for tensor in attributes)


def arrays(model) -> dict[str, bytes]:
    return {each.name: onnx.numpy_helper.to_array(each).tobytes() for each in load(model.path).graph.initializer}


@pytest.fixture(scope="module")
def with_constant(converted, tmp_path_factory):
    """The model with a tensor of 25 kB that is an attribute."""
    model = load(converted.path)
    ones = onnx.numpy_helper.from_array(np.ones((80, 80), np.float32), "ones")
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


@pytest.mark.parametrize("name", WRITERS)
def test_every_option_of_external_data_is_obeyed(name, with_constant, context):
    work, options = WRITERS[name]

    def write(**files):
        for path in context.folder.iterdir():
            path.unlink()
        return work(work.Config(**options, **files)).run(with_constant, context).model

    inside = write()
    assert [path.name for path in inside.files] == ["model.onnx"]
    expected = arrays(inside)
    large = write(save_as_external_data=True, external_data_name="w.bin", size_threshold=4_000)
    sizes, attributes = stored(large)
    assert [path.name for path in large.files] == ["model.onnx", "w.bin"]
    assert (min(sizes.values()) >= 4_000, attributes) == (True, 0)
    many = write(save_as_external_data=True, size_threshold=4_000, all_tensors_to_one_file=False)
    assert len(many.files) == 1 + len(sizes)
    everything = write(save_as_external_data=True, size_threshold=4_000, convert_attribute=True)
    assert stored(everything)[1] == 1
    assert arrays(everything) == expected

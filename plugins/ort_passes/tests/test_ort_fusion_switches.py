"""OrtTransformersOptimization: optimizer, sizes and switches reach the graph, and the fused model is compared."""

from __future__ import annotations

import json
from collections import Counter

import onnx
import onnxruntime
import pytest

from hfopt import HfoptError, PreconditionFailed
from hfopt.api.parity import Parity
from hfopt.testing import run_compared, validate
from hfopt_onnx_model.graph import load
from hfopt_onnx_model.settings import session_options, settings_of
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import FusionSwitches, OrtTransformersOptimizationConfig


def fuse(model, context, **options):
    config = OrtTransformersOptimizationConfig.model_validate_json(json.dumps(options))
    return OrtTransformersOptimization(config).run(model, context)


def fused(model, context, **options) -> dict[str, int]:
    return fuse(model, context, **options).report["fused"]


def test_the_optimizer_is_the_one_that_is_written(converted, context):
    assert fused(converted, context) == {"SkipLayerNormalization": 4, "Attention": 2, "BiasGelu": 2}
    assert fused(converted, context, model_type="t5") == {"BiasGelu": 2}
    assert fused(converted, context, model_type="roberta") == fused(converted, context, model_type="bert")


def test_a_model_that_does_not_say_of_which_type_it_is_stays_as_it_is(converted, context):
    result = fuse(converted.with_(attributes={}), context)

    assert result.report["warning"] == "the model does not state its type"
    assert result.model.path == converted.path


def test_written_sizes_fuse_the_attention_of_a_model_that_does_not_state_them(converted, context):
    silent = converted.with_(attributes={"model_type": "bert"})

    without = fuse(silent, context).report
    graph = load(fuse(silent, context, num_heads=4, hidden_size=64).model.path).graph

    assert "Attention" not in without["fused"]
    assert without["warning"].endswith("or needs sizes that the model does not state: set num_heads and hidden_size")
    heads = [
        each.i
        for node in graph.node
        if node.op_type == "Attention"
        for each in node.attribute
        if each.name == "num_heads"
    ]
    assert heads == [4, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 64}, "hidden_size: the model does not say how many heads it has"),
        ({"num_heads": 4, "hidden_size": 66}, "num_heads: hidden states of 66 can't be divided among 4 heads"),
    ],
)
def test_sizes_that_onnxruntime_can_not_use_are_refused(converted, options, message):
    work = OrtTransformersOptimization(OrtTransformersOptimizationConfig(**options))

    with pytest.raises(PreconditionFailed) as failure:
        work.requires(converted.with_(attributes={"model_type": "bert"}))

    assert failure.value.message == message


@pytest.mark.parametrize(
    "names",
    [("n_heads", "dim"), ("encoder_attention_heads", "d_model"), ("n_head", "n_embd"), ("num_heads", "d_model")],
    ids=["DistilBERT", "BART", "GPT-2", "T5"],
)
def test_sizes_are_found_by_the_names_that_other_architectures_give_them(converted, context, names):
    attributes = {"model_type": "distilbert", names[0]: 4, names[1]: 64}

    assert fused(converted.with_(attributes=attributes), context)["Attention"] == 2
    with pytest.raises(PreconditionFailed, match=f"num_heads: 8 is written, and the model's {names[0]} is 4"):
        OrtTransformersOptimization(OrtTransformersOptimizationConfig(num_heads=8)).requires(
            converted.with_(attributes=attributes)
        )


def test_a_model_whose_stages_have_sizes_of_their_own_is_fused_without_them(converted, context):
    """As Swin and SegFormer state them; Swin's hidden_size is that of its last stage."""
    stages = {"model_type": "segformer", "num_attention_heads": [1, 2, 5, 8], "hidden_sizes": [32, 64, 160, 256]}
    swin = {"model_type": "swin", "num_heads": [3, 6, 12, 24], "hidden_size": 768}

    for attributes in (stages, swin):
        assert fused(converted.with_(attributes=attributes), context)["SkipLayerNormalization"] == 4


def test_a_model_whose_heads_do_not_share_its_hidden_states_is_fused_without_its_sizes(converted, context):
    """As T5's of google/flan-t5-small: 6 heads of 64, and hidden states of 512."""
    t5 = converted.with_(attributes={"model_type": "bert", "d_model": 64, "num_heads": 6})

    OrtTransformersOptimization(OrtTransformersOptimizationConfig()).requires(t5)

    assert fused(t5, context)["SkipLayerNormalization"] == 4


CHANGES = {
    "enable_attention": (False, {"Attention": -2}),
    "enable_bias_gelu": (False, {"BiasGelu": -2, "Gelu": 2}),
    "enable_embed_layer_norm": (True, {"EmbedLayerNormalization": 1}),
    "enable_gelu": (False, {"BiasGelu": -2}),
    "enable_gelu_approximation": (True, {"BiasGelu": -2, "FastGelu": 2}),
    "enable_shape_inference": (False, {"Attention": -2}),
    "enable_skip_layer_norm": (False, {"SkipLayerNormalization": -4}),
    "use_multi_head_attention": (True, {"Attention": -2, "MultiHeadAttention": 2}),
}
"""Switch to its other value, and how many more of the fused operators a BERT of two layers then has."""


def test_a_switch_changes_which_operators_are_fused(converted, context):
    plain = fused(converted, context)

    for name, (value, expected) in CHANGES.items():
        found = fused(converted, context, optimization_options={name: value})
        counts = {operator: found.get(operator, 0) - plain.get(operator, 0) for operator in {*found, *plain}}
        assert {operator: count for operator, count in counts.items() if count} == expected, name


LEFT_OUT = {
    "enable_bias_gelu": ("BiasGelu", "Gelu", 2),
    "enable_skip_layer_norm": ("SkipLayerNormalization", "LayerNormalization", 5),
}
"""Switches of what ONNX Runtime would fuse as it opens a model: into what, and what is there instead."""


@pytest.mark.parametrize("switches", [["enable_bias_gelu"], ["enable_skip_layer_norm"], list(LEFT_OUT)])
def test_onnxruntime_does_not_fuse_when_it_opens_a_model_what_was_not_to_be_fused(
    converted, context, tmp_path, switches
):
    model = fuse(converted, context, optimization_options=dict.fromkeys(switches, False)).model
    options = session_options(settings_of(model), threads=1)
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")

    onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])

    operators = Counter(node.op_type for node in load(tmp_path / "opened.onnx").graph.node)
    for switch, (into, instead, count) in LEFT_OUT.items():
        assert (into in operators) is (switch not in switches)
        assert switch not in switches or operators[instead] == count


def test_every_switch_reaches_onnxruntime(converted, context, monkeypatch):
    """A BERT has nothing that the others change: rotary embeddings, GroupNorm, products quantized for CUDA."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import AttentionOpType, FusionOptions

    plain = vars(FusionOptions("unet"))
    no_switches = ("attention_mask_format", "attention_op_type")
    written = {name: not plain[name] for name in FusionSwitches.model_fields if name not in no_switches}
    seen = []
    own = optimizer.optimize_model
    monkeypatch.setattr(
        optimizer,
        "optimize_model",
        lambda *args, **named: seen.append(named["optimization_options"]) or own(*args, **named),
    )

    others = {"attention_mask_format": 1, "attention_op_type": "MultiHeadAttention"}
    fuse(converted, context, optimization_options={**written, **others})

    (options,) = seen
    assert {name: getattr(options, name) for name in written} == written
    assert options.attention_mask_format == 1
    assert options.attention_op_type == AttentionOpType.MultiHeadAttention


def test_there_is_a_switch_for_each_attribute_of_onnxruntime_s_fusion_options():
    from onnxruntime.transformers.fusion_options import FusionOptions

    assert set(FusionSwitches.model_fields) == set(vars(FusionOptions("unet")))


@pytest.mark.parametrize(
    ("options", "place", "message", "hint"),
    [
        ({"enable_gelu": 3}, "optimization_options.enable_gelu", "expected true or false, got an integer", None),
        ({"attention_mask_format": 9}, "optimization_options.attention_mask_format", "must be 0, 1, 2 or 3", None),
        ({"enable_gelo": True}, "optimization_options.enable_gelo", "unknown key", "did you mean 'enable_gelu'?"),
    ],
)
def test_a_switch_that_is_wrong_is_refused_at_its_place(options, place, message, hint):
    problems = []

    validate(OrtTransformersOptimizationConfig, {"optimization_options": options}, (), problems)

    assert [(".".join(map(str, each.path)), each.message, each.hint) for each in problems] == [(place, message, hint)]


def test_no_switches_may_be_null():
    config = OrtTransformersOptimizationConfig.model_validate_json('{"optimization_options": null}')

    assert config == OrtTransformersOptimizationConfig()


def test_what_onnxruntime_optimizes_beforehand_folds_constants(converted, context):
    nodes = [len(load(fuse(converted, context, opt_level=level).model.path).graph.node) for level in (0, 1)]

    assert nodes[1] < nodes[0]


# -- what the fused model computes -----------------------------------------------------------------------------------


def compared(model, context, *, on_difference="error", **options):
    config = OrtTransformersOptimizationConfig.model_validate_json(json.dumps(options))
    return run_compared(OrtTransformersOptimization(config), model, context, Parity(on_difference=on_difference))


def test_an_optimizer_that_fuses_something_else_is_an_error_unless_allowed(converted, context, monkeypatch):
    from onnxruntime.transformers import optimizer

    own = optimizer.optimize_model

    def with_another_scale(*args, **named):
        model = own(*args, **named)
        for node in model.get_nodes_by_op_type("Attention"):
            node.attribute.append(onnx.helper.make_attribute("scale", 30.0))
        return model

    monkeypatch.setattr(optimizer, "optimize_model", with_another_scale)

    with pytest.raises(HfoptError, match=r"^the new model computes something else: logits differs by "):
        compared(converted, context, model_type="bert")
    kept = compared(converted, context, model_type="bert", on_difference="warn").report
    assert kept["warning"].startswith("the new model computes something else: ")


@pytest.mark.parametrize("form", [0, 3])
def test_a_form_of_the_mask_that_is_wrong_for_padded_rows_does_not_go_unnoticed(converted, context, form):
    with pytest.raises(HfoptError, match=r"^the new model computes something else: logits differs by "):
        compared(converted, context, optimization_options={"attention_mask_format": form})


@pytest.mark.parametrize("name", ["bart", "gpt2", "swin", "t5", "unet", "vit"])
def test_an_optimizer_for_another_architecture_fuses_less_and_never_something_else(converted, context, name):
    report = compared(converted, context, model_type=name).report

    assert report["parity"]["agree"]
    assert set(report["fused"]) <= {"Attention", "BiasGelu", "Gelu", "SkipLayerNormalization"}

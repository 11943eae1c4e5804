"""Passes for a config that names none: which are chosen for a model, rows, a device and a search, and what is said."""

from __future__ import annotations

import json

import pytest

import hfopt
from hfopt import ConfigError
from hfopt.api.systems import AcceleratorConfig
from hfopt_init.choosing import AutoOptimizer, AutoOptimizerConfig

TEXTS = {"type": "HuggingfaceContainer", "params_config": {"data_name": "json", "data_files": "rows.json"}}
EVERY = frozenset({
    "OnnxConversion", "OrtTransformersOptimization", "OnnxDynamicQuantization", "OnnxStaticQuantization",
    "OnnxMatMul4Quantizer", "OrtMixedPrecision", "OrtPerfTuning",
})  # fmt: skip
SEARCHED = {"engine": {"search_strategy": True}}
WITH_ROWS = {"data_configs": [{"name": "rows"}]}
GPU = (AcceleratorConfig(device="gpu"),)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config without passes for a model of which there is only config.json, beside a file of rows."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "rows.json").write_text(json.dumps([{"text": "good", "label": 1}]))
    latency = {"name": "latency", "type": "latency", "data_config": "held_out", "sub_types": [{"name": "p50"}]}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "model", "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "held_out", **TEXTS}],
        "evaluators": {"e": {"metrics": [latency]}},
        "engine": {"evaluator": "e"},
    }


def choose(config, models=("PyTorchModel",), accelerators=(), offered=EVERY, **options):
    chooser = AutoOptimizer(AutoOptimizerConfig(**options))
    sections, told = chooser.choose(config, models, accelerators, offered)
    passes = sections["passes"]
    assert {name for flow in sections["pass_flows"] for name in flow} == set(passes)
    return [[passes[name]["type"] for name in flow] for flow in sections["pass_flows"]], told, passes


def test_a_config_without_passes_is_valid_with_those_that_are_measured_best(config):
    checked = hfopt.validate(config)

    kinds = [entry.component.registered.component.name for entry in checked.passes.values()]
    assert kinds == ["OnnxConversion", "OrtTransformersOptimization", "OnnxDynamicQuantization", "OrtPerfTuning"]
    assert checked.notices == (
        "no passes are written; chosen: OnnxConversion -> OrtTransformersOptimization -> OnnxDynamicQuantization -> "
        "OrtPerfTuning",
    )


def test_a_search_tries_every_way_that_the_precisions_allow(config):
    config["engine"]["search_strategy"] = True
    config["auto_optimizer_config"] = {"opt_level": 0, "precisions": ["fp32", "int8", "int4"]}

    checked = hfopt.validate(config)

    assert [[stage.name for stage in flow] for flow in checked.search.space.flows] == [
        ["conversion", "fusion", "tuning"],
        ["conversion", "fusion", "int8", "tuning"],
        ["conversion", "fusion_in_parts", "static_int8", "tuning"],
        ["conversion", "fusion_in_parts", "int4", "tuning"],
    ]


def test_every_flow_of_every_precision_validates(config):
    config["engine"]["search_strategy"] = True
    config["auto_optimizer_config"] = {"precisions": ["fp32", "fp16", "int8", "int4"]}

    assert len(hfopt.validate(config).search.space.flows) == 5


def test_static_quantization_needs_rows_and_prefers_those_that_nothing_is_measured_on():
    assert "OnnxStaticQuantization" not in str(choose(SEARCHED)[0])
    latency = {"name": "l", "data_config": "held_out"}
    both = {"data_configs": [{"name": "held_out"}, {"name": "others"}], "evaluators": {"e": {"metrics": [latency]}}}

    passes = choose({**SEARCHED, **both})[2]

    assert {passes[name]["config"]["data_config"] for name in ("static_int8", "tuning")} == {"others"}
    assert choose({**SEARCHED, **WITH_ROWS})[2]["static_int8"]["config"]["data_config"] == "rows"


def test_an_onnx_model_is_not_converted():
    assert choose({}, models=["ONNXModel"])[0] == [
        ["OrtTransformersOptimization", "OnnxDynamicQuantization", "OrtPerfTuning"]
    ]


def test_a_gpu_gets_half_precision():
    assert [flow[-2] for flow in choose(SEARCHED, accelerators=GPU)[0]] == [
        "OrtMixedPrecision",
        "OrtTransformersOptimization",
    ]


def test_passes_that_are_excluded_or_not_installed_are_left_out():
    flows, told, _ = choose({**SEARCHED, **WITH_ROWS}, excluded_passes=("ortperftuning", "OnnxMatMul4Quantizer"))
    assert "OrtPerfTuning" not in told
    assert "OnnxMatMul4Quantizer" not in told
    assert len(flows) == 3
    assert choose({}, offered=EVERY - {"OnnxDynamicQuantization"})[0] == [
        ["OnnxConversion", "OrtTransformersOptimization", "OnnxMatMul4Quantizer", "OrtPerfTuning"]
    ]


def test_nothing_to_choose_is_a_mistake(config):
    config["auto_optimizer_config"] = {"precisions": ["int4"], "excluded_passes": ["OnnxMatMul4Quantizer"]}

    with pytest.raises(ConfigError, match="passes: is required: at least one, as none could be chosen"):
        hfopt.validate(config)


def test_mistakes_are_told_at_their_place(config):
    config["auto_optimizer_config"] = {"opt_level": 1, "disable_auto_optimizer": True, "precisions": ["int3"]}

    with pytest.raises(ConfigError) as failure:
        hfopt.validate(config)
    assert [problem.path for problem in failure.value.problems] == [
        ("auto_optimizer_config", "opt_level"),
        ("auto_optimizer_config", "disable_auto_optimizer"),
        ("auto_optimizer_config", "precisions", 0),
    ]


def test_written_passes_win_with_a_word(config):
    config |= {"passes": {"only": {"type": "OnnxConversion"}}, "auto_optimizer_config": {"opt_level": 0}}

    checked = hfopt.validate(config)

    assert list(checked.passes) == ["only"]
    assert checked.notices == ("auto_optimizer_config is ignored: passes are written",)

"""Every mistake in a config: its place, the fact, the near miss; all at once; before anything runs."""

from __future__ import annotations

import copy

import pytest

import hfopt
from hfopt.discovery.known import known

MISTAKES = {
    "top-level key": (("pases",), {}, ": pases: unknown key", "did you mean 'passes'?"),
    "pass": (("passes", "first", "type"), "Scael", "no pass named 'Scael'", "did you mean 'Scale'?"),
    "option": (("passes", "first", "config", "factr"), 1.0, "unknown key", "did you mean 'factor'?"),
    "type of an option": (("passes", "first", "config", "factor"), "2 %", "expected a number, got a string", None),
    "boolean for a number": (("passes", "first", "config", "factor"), True, "expected a number, got a boolean", None),
    "pass key": (("passes", "first", "tpye"), "Scale", "unknown key", "did you mean 'type'?"),
    "data name": (
        ("passes", "third", "config", "data_config"),
        "pionts",
        "no data config named 'pionts'; there is points",
        "did you mean 'points'?",
    ),
    "metric data": (
        ("evaluators", "e", "metrics", 0, "data_config"),
        "point",
        "no data config named 'point'; there is points",
        "did you mean 'points'?",
    ),
    "container": (("data_configs", 0, "type"), "Point", "no data container named 'Point'", "did you mean 'Points'?"),
    "figure": (
        ("evaluators", "e", "metrics", 0, "sub_types", 0, "name"),
        "acuracy",
        "no metric named 'acuracy'; there is accuracy, length, mean",
        "did you mean 'accuracy'?",
    ),
    "metric type": (("evaluators", "e", "metrics", 0, "type"), "latncy", "must be", "did you mean 'latency'?"),
    "backend": (
        ("evaluators", "e", "metrics", 0, "backend"),
        "toy_metric",
        "no metric backend named 'toy_metric'",
        "did you mean 'toy_metrics'?",
    ),
    "system of Olive": (
        ("engine", "host"),
        {"type": "isolatedort"},
        "engine.host.type: system 'IsolatedORT' is not available in this version\n",
        None,
    ),
    "device": (
        ("systems",),
        {"d": {"type": "LocalSystem", "config": {"accelerators": [{"device": "CPUs"}]}}},
        "systems.d.config.accelerators[0].device: must be 'cpu', 'gpu' or 'npu'",
        "did you mean 'cpu'?",
    ),
    "evaluator": (("engine", "evaluator"), "f", "no evaluator named 'f'; there is e", None),
    "system": (("engine", "target"), "cluster", "no system named 'cluster'; there is local_system", None),
    "model type": (("input_model", "type"), "Lin", "no model type named 'Lin'", "did you mean 'Line'?"),
    "missing file": (("input_model", "config", "model_path"), "x.json", "no such file or folder: x.json", None),
    "long path": (("input_model", "config", "model_path"), "x" * 300, "no such file or folder: " + "x" * 300, None),
    "wrong kind of section": (("passes",), [1], "expected an object", None),
    "wrong kind of list": (("data_configs",), {}, "expected a list", None),
    "bound": (("passes", "third", "config", "delay"), -0.5, "passes.third.config.delay: must be at least 0", None),
    "values to search": (
        ("passes", "first", "config", "factor"),
        {"search": [1.0, 2.0]},
        "passes.first.config.factor: has several values, and engine.search_strategy is not set",
        "set it to true, or keep one",
    ),
    "search parameter": (
        ("passes", "first", "config", "factor"),
        {"olive_parameter_type": "SearchParameter", "type": "Categorical", "support": [1.0, 2.0]},
        "passes.first.config.factor: has several values, and engine.search_strategy is not set",
        "set it to true, or keep one",
    ),
    "alternatives": (
        ("passes", "third"),
        [{"type": "Retune"}, None],
        "passes.third: is a list of passes, and engine.search_strategy is not set",
        "set it to true, or keep one",
    ),
    "default of no option": (
        ("passes", "first", "config", "factr"),
        "DEFAULT_VALUE",
        "passes.first.config.factr: unknown key",
        "did you mean 'factor'?",
    ),
    "script": (
        ("evaluators", "e", "metrics", 0, "user_config"),
        {"user_script": "s.py"},
        "metrics[0].user_config.user_script: goes with dataloader_func, or with a metric of type custom",
        None,
    ),
    "goal": (
        ("evaluators", "e", "metrics", 0, "sub_types", 0, "goal"),
        {"type": "treshold", "value": 1},
        "must be 'threshold', 'max-degradation', 'min-improvement', 'percent-max-degradation' or",
        "did you mean 'threshold'?",
    ),
    "impossible goal": (
        ("evaluators", "e", "metrics", 0, "sub_types", 0, "goal"),
        {"type": "percent-max-degradation", "value": 100},
        "sub_types[0].goal.value: can't be met: no figure falls by 100 per cent or more",
        None,
    ),
    "goal of a proportion in per cent": (
        ("evaluators", "e", "metrics", 0, "sub_types", 0, "goal"),
        {"type": "threshold", "value": 90},
        "sub_types[0].goal.value: a proportion is at most 1: write 90 per cent as 0.9",
        None,
    ),
    "negative goal": (
        ("evaluators", "e", "metrics", 1, "sub_types"),
        [{"name": "bytes", "goal": {"type": "min-improvement", "value": -1}}],
        "metrics[1].sub_types[0].goal.value: must not be negative",
        None,
    ),
    "option of a size": (
        ("evaluators", "e", "metrics", 1, "sub_types"),
        [{"name": "bytes", "metric_config": {"unit": "MB"}}],
        "metrics[1].sub_types[0].metric_config.unit: unknown key",
        "known here: none",
    ),
    "rank": (
        ("evaluators", "e", "metrics", 0, "sub_types", 0, "priority"),
        0,
        "must be 1 (most important) or more; -1 leaves it unranked",
        None,
    ),
    "same rank": (
        ("evaluators", "e", "metrics", 0, "sub_types"),
        [{"name": "accuracy", "priority": 2}, {"name": "mean", "priority": 2}],
        "sub_types[1].priority: must be unique: evaluators.e.metrics[0].sub_types[0].priority is 2 too",
        None,
    ),
    "same figure": (
        ("evaluators", "e", "metrics", 0, "sub_types"),
        [{"name": "accuracy"}, {"name": "accuracy"}],
        "sub_types[1].name: must be unique: evaluators.e.metrics[0].sub_types[0].name is 'accuracy' too",
        None,
    ),
    "output name of hfopt's own": (
        ("passes", "first", "output_name"),
        "best",
        "passes.first.output_name: best is the name of a result of hfopt's own: choose another",
        None,
    ),
    "output name elsewhere": (("engine", "output_name"), "../x", "engine.output_name: must be a plain name", None),
    "same output name": (
        ("passes",),
        {
            "first": {"type": "Scale", "output_name": "halved"},
            "second": {"type": "Scale", "output_name": "halved"},
        },
        "passes.second.output_name: must be unique: passes.first.output_name is 'halved' too",
        None,
    ),
    "same package": (
        ("engine", "packaging_config"),
        [{"type": "Zipfile"}, {"type": "Zipfile"}],
        "packaging_config[1].name: must be unique: engine.packaging_config[0].name is 'OutputModels' too",
        None,
    ),
    "host of a pass": (
        ("passes", "first", "host"),
        "cluster",
        "no system named 'cluster'; there is local_system",
        None,
    ),
    "evaluator of a pass": (("passes", "first", "evaluator"), "f", "no evaluator named 'f'; there is e", None),
    "evaluator written out": (
        ("engine", "evaluator"),
        {"metrics": [{"name": "speed", "type": "latncy"}]},
        "engine.evaluator.metrics[0].type: must be",
        "did you mean 'latency'?",
    ),
    "data root": (("data_root",), "nowhere", "no such folder: nowhere", None),
}


def put(config, path, value):
    changed = copy.deepcopy(config)
    place = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_with_its_place_and_a_near_miss(project, mistake):
    path, value, message, hint = MISTAKES[mistake]
    project.config = put(project.config, path, value)

    done = project.run()

    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert message in done.stderr
    assert len([line for line in lines if not line.startswith("  ")]) == 1
    if hint:
        assert lines[-1] == f"  hint: {hint}"


def test_a_message_reads_in_full(project):
    project.config = put(project.config, ("passes", "first", "type"), "Scael")
    installed = ", ".join(sorted([*known("hfopt_passes"), "Misbehave", "Polish", "Retune", "Scale", "Tune", "Untidy"]))

    assert project.run().stderr == (
        f"hfopt: config.json:43: passes.first.type: no pass named 'Scael'; installed: {installed}\n"
        "  hint: did you mean 'Scale'?\n"
    )


def test_all_mistakes_come_at_once_and_nothing_has_run_or_been_made(project):
    for path, value, *_ in (MISTAKES[name] for name in ("top-level key", "pass", "option", "data name", "evaluator")):
        if path[-1] != "factr":
            project.config = put(project.config, path, value)
    project.config = put(project.config, ("passes", "second", "config", "factr"), 1.0)

    done = project.run()

    assert done.returncode == 2
    messages = [line for line in done.stderr.removeprefix("hfopt: ").splitlines() if not line.startswith("  ")]
    assert [message.split(": ")[1] for message in messages] == [
        "passes.first.type",
        "passes.second.config.factr",
        "passes.third.config.data_config",
        "engine.evaluator",
        "pases",
    ]
    assert sorted(path.name for path in project.folder.iterdir()) == ["config.json", "line.json", "points.json"]


def test_what_is_required_is_named(project):
    project.config = {"engine": {}}

    done = project.run()

    assert done.stderr == ("hfopt: config.json: input_model: is required\n")


def test_names_that_must_be_unique_are(project):
    project.config["data_configs"].append(project.config["data_configs"][0])
    project.config["evaluators"]["e"]["metrics"].append(project.config["evaluators"]["e"]["metrics"][0])

    stderr = project.run().stderr

    assert "data_configs[1].name: must be unique: data_configs[0].name is 'points' too" in stderr
    assert "metrics[2].name: must be unique: evaluators.e.metrics[0].name is 'accuracy' too" in stderr


def test_a_metric_without_data_or_figures_says_what_it_needs(project):
    project.config["evaluators"]["e"]["metrics"] = [
        {"name": "a", "type": "accuracy", "backend": "toy_metrics", "data_config": "points"},
        {"name": "l", "type": "latency"},
    ]

    stderr = project.run().stderr

    assert "metrics[0].sub_types: is required: name at least one figure, such as accuracy" in stderr
    assert "metrics[1].data_config: is required: latency needs rows to work on" in stderr


def test_a_pass_that_can_not_take_what_comes_before_it_is_found_before_anything_runs(project):
    project.config["passes"]["fourth"] = {"type": "OrtPerfTuning"}

    done = project.run()

    assert done.returncode == 2
    assert (
        "passes.fourth.type: OrtPerfTuning takes ONNXModel, but here it would get Line\n"
        "  hint: put OnnxConversion before it"
    ) in done.stderr


def test_a_conversion_of_what_is_converted_is_better_left_out(project):
    (project.folder / "model.onnx").touch()
    project.config["input_model"] = {"type": "ONNXModel", "config": {"model_path": "model.onnx"}}
    project.config["passes"] = {"conversion": {"type": "OnnxConversion"}}

    done = project.run(command="validate")

    assert done.returncode == 2
    assert (
        "passes.conversion.type: OnnxConversion takes PyTorchModel, but here it would get ONNXModel\n"
        "  hint: leave it out: the model is ONNXModel already"
    ) in done.stderr


def test_keys_of_olive_that_are_not_needed_are_ignored_with_a_notice(project):
    project.config["engine"]["clean_cache"] = True
    project.config["engine"]["search_strategy"] = None
    project.config["passes"]["first"] |= {"clean_run_cache": True, "disable_search": None, "type": "scALE"}

    done = project.run(command="validate")

    assert done.returncode == 0
    assert "note: engine.clean_cache is ignored: a step runs again whenever anything" in done.stdout
    assert "note: passes.first.clean_run_cache is ignored: a step runs again whenever anything" in done.stdout


def test_a_figure_without_a_priority_comes_after_every_other(project):
    sub_types = [{"name": "accuracy"}, {"name": "mean", "priority": 9}]
    project.config["evaluators"]["e"]["metrics"][0]["sub_types"] = sub_types
    project.write()

    figures = hfopt.validate(project.folder / "config.json", plugin_files=[project.plugin]).figures

    assert {figure.key: figure.priority for figure in figures} == {
        "accuracy-accuracy": 2,
        "accuracy-mean": 1,
        "size-bytes": 3,
    }


def test_an_option_that_changes_nothing_is_a_notice_with_its_place(project):
    project.config["passes"]["third"]["config"]["unused"] = 3

    done = project.run(command="validate")

    assert done.returncode == 0
    assert "note: passes.third.config.unused is ignored: there is nothing to use it for" in done.stdout


def test_the_word_for_the_default_is_an_option_left_out(project):
    project.config["passes"]["first"]["config"]["factor"] = "DEFAULT_VALUE"

    project.write()

    passes = hfopt.validate(project.folder / "config.json", plugin_files=[project.plugin]).passes

    assert passes["first"].component.config.factor == 1.0


def test_an_input_is_looked_for_beside_the_config_then_in_the_current_folder_with_a_notice(project):
    (project.folder / "configs").mkdir()
    project.write()
    (project.folder / "config.json").rename(project.folder / "configs" / "config.json")

    import subprocess

    done = subprocess.run(
        project.command("validate", "configs/config.json"), cwd=project.folder, capture_output=True, text=True
    )

    assert done.returncode == 0
    assert "note: line.json: taken from the current folder (not found in the config file's)" in done.stdout

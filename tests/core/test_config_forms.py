"""Forms of Olive's: one flow, sections written out in place, sections that nothing uses, one sentence per cause."""

from __future__ import annotations

import copy

import pytest

import hfopt

HERE = {"type": "LocalSystem", "config": {"accelerators": [{"device": "cpu"}]}}


@pytest.fixture
def validated(project):
    """The run config, which is valid."""

    def validate():
        project.write()
        return hfopt.validate(project.folder / "config.json", plugin_files=[project.plugin])

    return validate


@pytest.fixture
def refusal(project):
    """What is printed of a config with mistakes."""

    def validate():
        done = project.run(command="validate")
        assert done.returncode == 2, done.stdout
        return done.stderr

    return validate


def test_a_single_flow_is_the_order_of_the_passes(project, validated):
    project.config["pass_flows"] = [["second", "third"]]

    run = validated()

    assert list(run.passes) == ["second", "third"]
    assert run.notices == ("passes.first is not run: pass_flows does not name it",)


@pytest.mark.parametrize("nothing", [None, [], ""])
def test_no_flow_is_every_pass_as_written(project, validated, nothing):
    project.config["pass_flows"] = nothing

    assert list(validated().passes) == ["first", "second", "third"]


def test_several_flows_are_a_search(project, refusal):
    project.config["pass_flows"] = [["first", "third"], ["second", "third"]]

    assert "pass_flows: has several flows, and engine.search_strategy is not set\n  hint: set it" in refusal()


@pytest.mark.parametrize(
    ("flows", "message"),
    [
        (
            [["firts"]],
            "pass_flows[0][0]: no pass named 'firts'; there is first, second, third\n  hint: did you mean",
        ),
        ([["first", "first"]], "pass_flows[0][1]: must be unique: pass_flows[0][0] is 'first' too"),
        (["first"], "pass_flows[0]: expected a list, got a string"),
    ],
)
def test_a_flow_names_passes_once_each(project, refusal, flows, message):
    project.config["pass_flows"] = flows

    assert message in refusal()


def test_systems_may_be_written_out_where_a_name_may_stand(project, validated):
    project.config["engine"] |= {"host": {"type": "localsystem"}, "target": HERE}
    project.config["passes"]["first"]["host"] = HERE

    run = validated()

    assert (run.host, run.target) == ("engine.host", "engine.target")
    assert run.systems[run.passes["first"].host].config.accelerators[0].device == "cpu"


def test_a_run_on_a_system_written_out_in_place(project):
    project.config["engine"]["target"] = HERE

    assert project.run().returncode == 0


def test_a_data_config_may_be_written_out_where_a_name_may_stand(project, validated):
    [points] = project.config.pop("data_configs")
    metric = project.config["evaluators"]["e"]["metrics"][0]
    metric["data_config"] = points
    project.config["passes"]["third"]["config"]["data_config"] = copy.deepcopy(points)

    run = validated()

    assert list(run.data) == ["points"]
    assert run.passes["third"].component.data == ("points",)


def test_a_data_config_in_place_needs_no_name(project, validated):
    [points] = project.config["data_configs"]
    project.config["passes"]["third"]["config"]["data_config"] = {
        key: value for key, value in points.items() if key != "name"
    }

    assert list(validated().data) == ["points", "passes_third_config_data_config"]


def test_a_mistake_in_a_section_in_place_is_told_there(project, refusal):
    project.config["engine"]["host"] = {"type": "LocalSystm"}
    project.config["evaluators"]["e"]["metrics"][0]["data_config"] = {"name": "d", "type": "Pionts"}

    error = refusal()

    assert "engine.host.type: no system named 'LocalSystm'" in error
    assert "evaluators.e.metrics[0].data_config.type: no data container named 'Pionts'" in error


def test_two_data_configs_of_one_name_that_differ_are_a_mistake(project, refusal):
    [points] = project.config["data_configs"]
    metric = project.config["evaluators"]["e"]["metrics"][0]
    metric["data_config"] = points | {"params_config": points["params_config"] | {"batch_size": 7}}

    assert "evaluators.e.metrics[0].data_config.name: must be unique" in refusal()


@pytest.mark.parametrize(
    ("section", "entry", "notice"),
    [
        (
            "systems",
            {"cloud": {"type": "IsolatedORT", "config": {"a": "c"}}},
            "nothing uses systems.cloud: system 'IsolatedORT' is not available in this version",
        ),
        ("description", "A first try", "description is ignored: it is for its reader"),
    ],
)
def test_what_nothing_uses_is_a_notice(project, validated, section, entry, notice):
    project.config[section] = entry

    assert validated().notices == (notice,)


def test_a_system_that_is_used_must_be_there(project, refusal):
    project.config["systems"] = {"cloud": {"type": "IsolatedORT"}}
    project.config["passes"]["first"]["host"] = "cloud"

    assert refusal().endswith("systems.cloud.type: system 'IsolatedORT' is not available in this version\n")


def test_a_name_that_is_a_task_of_another_version_is_a_name_like_any_other(project, refusal):
    project.config["engine"]["evaluator"] = "translation"

    assert "engine.evaluator: no evaluator named 'translation'; there is e\n" in refusal()


def test_what_an_input_model_that_is_not_there_would_have_told_is_not_missing(project, refusal):
    project.config["input_model"] = {"type": "TensorFlowModel"}

    assert refusal().endswith("input_model.type: model type 'TensorFlowModel' is not available in this version\n")

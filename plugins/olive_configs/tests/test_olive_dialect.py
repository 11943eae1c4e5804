"""Olive's keys that this version does not act on, wherever they stand."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt_olive_configs.dialect import IGNORED, REFUSED, strip_unsupported, take_functions, take_rows

METRIC = {"metrics": [{"name": "a", "user_config": {"user_script": "s.py"}}]}
KEYS = [
    "data_configs",
    "engine",
    "evaluators",
    "input_model",
    "passes",
    "systems",
    "metrics",
    "evaluator",
    *(key for table in (REFUSED, IGNORED) for keys in table.values() for key in keys),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"evaluators": {"e": METRIC}}, ("evaluators", "e", "metrics", 0, "user_config", "user_script")),
        ({"engine": {"evaluator": METRIC}}, ("engine", "evaluator", "metrics", 0, "user_config", "user_script")),
        (
            {"passes": {"p": {"evaluator": METRIC}}},
            ("passes", "p", "evaluator", "metrics", 0, "user_config", "user_script"),
        ),
    ],
)
def test_a_refused_key_is_one_problem_wherever_its_section_stands(config, place):
    _, problems, notices = strip_unsupported(config)

    assert [problem.path for problem in problems] == [place]
    assert notices == []


ROWS = {"user_script": "s.py", "dataloader_func": "rows", "data_dir": "d", "batch_size": 4}
JUDGES = {"user_script": "s.py", "evaluate_func": "judge", "func_kwargs": {"evaluate_func": {"a": 1}}}
NAME = "evaluators_e_metrics_0__user_config"


def metric(**metric):
    return {"evaluators": {"e": {"metrics": [{"name": "a", **metric}]}}}


@pytest.mark.parametrize(
    ("config", "left", "place", "taken"),
    [
        (
            metric(type="latency", user_config={**ROWS, "io_bind": True}, data_config="other"),
            metric(type="latency", user_config={"io_bind": True}, data_config=NAME),
            ("evaluators", "e", "metrics", 0, "user_config"),
            {**ROWS, "type": "DataloaderFunc", "name": NAME},
        ),
        (
            metric(type="custom", user_config={**ROWS, **JUDGES}),
            metric(type="custom", user_config={}, functions={**ROWS, **JUDGES}, data_config=NAME),
            ("evaluators", "e", "metrics", 0, "user_config"),
            {**ROWS, **JUDGES, "type": "EvaluateFunc", "name": NAME},
        ),
        (
            {"passes": {"p": {"type": "OrtPerfTuning", "config": {**ROWS, "io_bind": True}}}},
            {"passes": {"p": {"type": "OrtPerfTuning", "config": {"io_bind": True, "data_config": "passes_p_config"}}}},
            ("passes", "p", "config"),
            {**ROWS, "type": "DataloaderFunc", "name": "passes_p_config"},
        ),
    ],
    ids=["metric", "custom metric", "pass"],
)
def test_functions_that_yield_rows_or_judge_are_data_configs(config, left, place, taken):
    before = copy.deepcopy(config)

    assert take_functions(config) == (left, {place: taken})
    assert config == before


@pytest.mark.parametrize(
    ("config", "functions"),
    [
        (metric(type="accuracy", user_config={"user_script": "s.py"}, data_config="d"), None),
        (metric(type="custom", user_config={"metric_func": "f"}, data_config="d"), {"metric_func": "f"}),
        ({"passes": {"p": {"type": "Theirs", "config": ROWS}}}, None),
        ({"passes": {"p": {"type": "OrtPerfTuning", "config": {"user_script": "s.py"}}}}, None),
    ],
)
def test_what_names_no_such_function_keeps_its_data_config(config, functions):
    left, taken = take_functions(config)

    assert taken == {}
    if functions is None:
        assert left == config
    else:
        assert left["evaluators"]["e"]["metrics"][0]["functions"] == functions


POST = {"user_script": "s.py", "post_processing_func": "p"}
SHAPES = {"input_names": ["x"], "input_shapes": [[1, 2]], "input_types": ["int64"]}
CSV = {"name": "d", "type": "HuggingfaceContainer", "user_script": None}


@pytest.mark.parametrize(
    ("asked", "left", "taken"),
    [
        (
            {"user_config": {**POST, "func_kwargs": {"post_processing_func": {"a": 1}}}, "data_config": "d"},
            {"user_config": {}, "data_config": NAME},
            {**CSV, "user_script": "s.py", "post_process_data_config": {"type": "p", "params": {"a": 1}}},
        ),
        (
            {"user_config": dict(POST), "data_config": {"type": "DataContainer", "user_script": "s.py"}},
            {"user_config": {}, "data_config": NAME},
            {
                "type": "DataContainer",
                "user_script": "s.py",
                "post_process_data_config": {"type": "p", "params": None},
            },
        ),
        (
            {"user_config": {**SHAPES, "io_bind": True}},
            {"user_config": {"io_bind": True}, "data_config": NAME},
            {"type": "DummyDataContainer", "params_config": SHAPES},
        ),
        ({"user_config": SHAPES, "data_config": "d"}, {"user_config": SHAPES, "data_config": "d"}, None),
        ({"user_config": POST, "data_config": "other"}, {"user_config": POST, "data_config": "other"}, None),
    ],
    ids=["named data", "written out", "shapes", "shapes of data", "data that are not there"],
)
def test_what_a_metric_says_of_rows_is_a_data_config(asked, left, taken):
    config = {**metric(**copy.deepcopy(asked)), "data_configs": [CSV]}

    found = take_rows(config)

    place = ("evaluators", "e", "metrics", 0, "user_config")
    assert found == ({} if taken is None else {place: {**taken, "name": NAME}})
    assert config == {**metric(**left), "data_configs": [CSV]}


@pytest.mark.parametrize("nothing", [None, False, {}])
def test_a_refused_key_that_asks_for_nothing_is_left_out(nothing):
    asks = {"evaluators": {"e": {"metrics": [{"user_config": {"shared_kv_buffer": nothing}}]}}}

    assert strip_unsupported(asks) == ({"evaluators": {"e": {"metrics": [{"user_config": {}}]}}}, [], [])


def test_an_ignored_key_is_left_out_with_a_notice():
    config, problems, (notice,) = strip_unsupported({"passes": {"p": {"clean_run_cache": False, "type": "Scale"}}})

    assert (config, problems) == ({"passes": {"p": {"type": "Scale"}}}, [])
    assert notice.startswith("passes.p.clean_run_cache is ignored: a step runs again whenever ")


@given(config=ANYTHING)
def test_what_is_left_is_supported_and_the_users_config_is_not_touched(config):
    written = copy.deepcopy(config)

    kept, _, _ = strip_unsupported(config)

    assert strip_unsupported(kept) == (kept, [], [])
    assert config == written

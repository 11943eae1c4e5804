"""A search drops clear losers by a part of the rows: what it saves, what it tells, and that its result is the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

COUNTED = """
said = PointSet.predict
PointSet.predict = lambda self, session, batch: (
    count_run(f"row {batch.rows[0]} {session.slope}"), said(self, session, batch)
)[1]
"""
TOY = Path(__file__).with_name("toy.py")
FACTORS = [1.02, 4.0, 1.1, 0.5, 1.05]
"""What the slope is multiplied by: 4 and 0.5 are far off."""
LOSERS = [4.0, 0.5]


@pytest.fixture(scope="module")
def searched(make_project):
    """Runs a search of a factor on 200 rows, whose predictions are counted."""

    def run(sub_types=({"name": "accuracy"},), again=False, **strategy):
        project = make_project()
        project.plugin = project.folder / "counted.py"
        project.plugin.write_text(TOY.read_text() + COUNTED)
        project.config["evaluators"]["e"]["metrics"][0]["sub_types"] = [*sub_types]
        project.config["passes"] = {"scale": {"type": "Scale", "config": {"factor": {"search": FACTORS}}}}
        project.config["engine"]["search_strategy"] = strategy or True
        for _ in range(1 + again):
            project.done = project.run()
        return project

    return run


@pytest.fixture(scope="module")
def dropping(searched):
    return searched()


@pytest.fixture(scope="module")
def keeping(searched):
    return searched(drop_early=False)


def trials(project):
    """The candidates by their factor, in the order of the trials."""
    (result,) = project.record["results"]
    return {each["choices"]["passes.scale.factor"]: each for each in result["candidates"]}


def best(project):
    (result,) = project.record["results"]
    return next(factor for factor, each in trials(project).items() if each["id"] == result["best"])


def rows_run(project):
    """How often each slope was run on each row."""
    return Counter(tuple(line.split()[1:]) for line in project.executed if line.startswith("row"))


def test_what_is_worse_than_the_best_so_far_beyond_doubt_is_dropped_and_the_reason_is_told(dropping):
    found = {factor: each["status"] for factor, each in trials(dropping).items()}

    assert found == dict.fromkeys(FACTORS, "succeeded") | dict.fromkeys(LOSERS, "dropped")
    least = trials(dropping)[1.02]["metrics"]["accuracy-accuracy"]["value"]
    message = f"accuracy-accuracy can't reach {least:.4g} on all 200 rows, as 100 of them show"
    assert trials(dropping)[4.0]["error"] == {
        "step": "score scale, 1/2 of the rows", "type": "Dropped", "message": message, "hint": None, "expected": True,
    }  # fmt: skip
    assert f"trial 2: scale.factor=4.0: dropped: {message}\n" in dropping.done.stderr


def test_of_what_is_dropped_no_figure_of_a_part_of_the_rows_is_told(dropping):
    dropped = trials(dropping)[4.0]

    assert [*dropped["metrics"]] == ["size-bytes"]
    assert dropped["goals_met"] is None
    assert not dropped["pareto"]


def test_no_row_is_predicted_twice_and_losers_are_run_on_some_alone(dropping, keeping):
    counts = rows_run(dropping)

    assert {*counts.values()} == {1}
    by_slope = Counter(slope for _, slope in counts)
    assert by_slope == {"0.5": 200, "0.51": 200, "2.0": 100, "0.55": 200, "0.25": 100, "0.525": 200}
    assert counts.keys() < rows_run(keeping).keys()


def test_the_best_and_all_figures_are_those_of_a_search_that_drops_nothing(dropping, keeping):
    assert best(dropping) == best(keeping) == 1.1
    assert {each["status"] for each in trials(keeping).values()} == {"succeeded"}
    for factor in {*FACTORS} - {*LOSERS}:
        one, other = (trials(each)[factor] for each in (dropping, keeping))
        assert one["metrics"] == other["metrics"]
        assert one["steps"][-1]["key"] == other["steps"][-1]["key"], "whoever needs it finds it in the cache"


def test_the_best_is_told_with_an_interval_that_knows_that_it_was_chosen(keeping, dropping, searched):
    (chosen,) = (each["chosen"]["accuracy-accuracy"] for each in keeping.record["results"])
    usual = trials(keeping)[1.1]["metrics"]["accuracy-accuracy"]

    assert chosen["value"] == usual["value"] == 0.975
    assert chosen["difference"]["value"] == pytest.approx(usual["difference"]["value"])
    assert chosen["low"] < 0.955 < 0.975 < chosen["high"], "the next best is at 95.5 %"
    assert dropping.record["results"][0]["chosen"].keys() == {"accuracy-accuracy"}
    assert "accuracy-accuracy of the best, which was chosen by it: 97.50 % [" in keeping.done.stdout
    assert searched(max_iter=1).record["results"][0]["chosen"] == {}, "it was chosen from nothing"


def test_predictions_made_in_parts_are_those_made_at_once(dropping, keeping):
    def digests(project):
        files = project.folder.glob(".hfopt-cache/artifacts/*/*/manifest.json")
        found = (json.loads(file.read_bytes()) for file in files)
        return {each["key"]: each["digest"] for each in found if each["kind"] == "predict"}

    shared = digests(dropping).keys() & digests(keeping).keys()

    assert len(shared) == 4, "the input model's and those of three models that stay"
    assert all(digests(dropping)[key] == digests(keeping)[key] for key in shared)


def test_a_search_that_is_run_again_drops_the_same_and_repeats_nothing(dropping, searched):
    project = searched(again=True)

    assert {*rows_run(project).values()} == {1}
    assert trials(project) == {
        factor: {**each, "steps": trials(project)[factor]["steps"]} for factor, each in trials(dropping).items()
    }
    assert all(step["cached"] for each in trials(project).values() for step in each["steps"])


def test_a_goal_that_is_missed_beyond_doubt_is_enough_where_another_figure_decides(searched):
    goal = {"type": "max-degradation", "value": 0.1}
    project = searched([{"name": "mean", "priority": 1}, {"name": "accuracy", "priority": 2, "goal": goal}])

    assert [factor for factor, each in trials(project).items() if each["status"] == "dropped"] == LOSERS
    value = project.record["results"][0]["input_model"]["metrics"]["accuracy-accuracy"]["value"]
    assert f"accuracy-accuracy can't reach {value - 0.1:.4g} on all 200 rows" in project.done.stderr


@pytest.mark.parametrize(
    "sub_types",
    [
        [{"name": "mean", "priority": 1}, {"name": "accuracy", "priority": 2}],
        [{"name": "accuracy", "goal": {"type": "threshold", "value": 0.99}}],
        [{"name": "accuracy", "higher_is_better": False}],
    ],
    ids=["another figure decides", "the best misses a goal", "less is better"],
)
def test_nothing_is_dropped_where_a_part_of_the_rows_can_not_tell(searched, sub_types):
    assert {each["status"] for each in trials(searched(sub_types)).values()} == {"succeeded"}

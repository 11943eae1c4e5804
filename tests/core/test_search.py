"""A search: what is tried, what is shared, which model is the result, and that a kill loses nothing."""

from __future__ import annotations

import json
import signal
import time

import pytest

from hfopt.engine.ranking import eligible, front, merit, rivals


@pytest.fixture
def searched(project):
    """Runs the toy project with a search over factors whose product should be 1."""

    def run(strategy=True, passes=None, code=0, goal=None, **entries):
        project.config["engine"]["search_strategy"] = strategy
        project.config["passes"] = passes or {
            "first": {"type": "Scale", "config": {"factor": {"search": [2.0, 0.5]}}},
            "second": {"type": "Scale", "config": {"factor": {"search": [0.75, 2.0, 0.25]}}},
        }
        project.config |= entries
        if goal is not None:
            accuracy = project.config["evaluators"]["e"]["metrics"][0]["sub_types"][0]
            accuracy["goal"] = {"type": "threshold", "value": goal}
        done = project.run()
        assert done.returncode == code, done.stderr
        return done

    return run


def choices(project):
    """The factors of each candidate, in the order of the trials."""
    (result,) = project.record["results"]
    return [tuple(each["choices"].values()) for each in result["candidates"]]


def best(project):
    (result,) = project.record["results"]
    return next(tuple(each["choices"].values()) for each in result["candidates"] if each["id"] == result["best"])


def test_every_point_is_tried_and_the_best_is_the_result(searched, project):
    done = searched()

    assert choices(project) == [(2.0, 0.75), (2.0, 2.0), (2.0, 0.25), (0.5, 0.75), (0.5, 2.0), (0.5, 0.25)]
    assert best(project) == (0.5, 2.0)
    assert "trial 5: first.factor=0.5, second.factor=2.0: accuracy-accuracy 93.00 %" in done.stderr
    saved = json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text())
    assert saved["slope"] == 0.5
    (result,) = project.record["results"]
    steps = [step for each in result["candidates"] for step in each["steps"]]
    assert {step["name"] for step in steps if step["type"].endswith("Scale")} == {"first", "second"}


def test_what_points_have_in_common_is_done_once(searched, project):
    searched()

    assert [line for line in project.executed if line.startswith("Scale")] == [
        "Scale 2.0", "Scale 0.75", "Scale 2.0", "Scale 0.25", "Scale 0.5", "Scale 0.75", "Scale 2.0", "Scale 0.25",
    ]  # fmt: skip


def test_a_search_that_is_run_again_repeats_nothing_and_finds_the_same(searched, project):
    searched()
    first, executed = project.record, list(project.executed)

    searched()

    assert project.executed == executed
    assert choices(project) == [tuple(each["choices"].values()) for each in first["results"][0]["candidates"]]
    assert project.record["results"][0]["best"] == first["results"][0]["best"]


@pytest.mark.parametrize("algorithm", ["exhaustive", "random"])
def test_a_search_ends_after_as_many_trials_as_it_may_have(searched, project, algorithm):
    options = {"num_samples": 5} if algorithm == "random" else {}
    searched({"search_algorithm": algorithm, "search_algorithm_config": options, "max_iter": 2})

    assert len(choices(project)) == 2


def test_random_points_are_those_of_the_seed_and_each_is_tried_once(searched, project):
    drawn = []
    for seed in (1, 1, 2):
        options = {"num_samples": 4, "seed": seed}
        searched({"search_algorithm": "random", "search_algorithm_config": options})
        drawn.append(choices(project))

    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4


def test_more_samples_than_points_are_all_points(searched, project):
    searched({"search_algorithm": "random", "search_algorithm_config": {"num_samples": 100}})

    assert len(set(choices(project))) == len(choices(project)) == 6


def test_it_can_end_with_the_first_model_that_meets_every_goal(searched, project):
    searched({"stop_when_goals_met": True}, goal=0.9)

    assert choices(project)[-1] == (0.5, 2.0) == best(project)
    assert len(choices(project)) == 5


def test_a_goal_that_is_missed_by_all_still_has_a_best_and_says_so(searched, project):
    done = searched(goal=1.0, code=1)

    assert project.record["status"] == "goals_not_met"
    assert best(project) == (0.5, 2.0)
    assert "goal MISSED: accuracy-accuracy" in done.stdout


def test_time_that_is_up_ends_it(searched, project):
    searched({"max_time": 0.001})

    assert len(choices(project)) == 1


def test_pass_by_pass_the_best_of_each_pass_is_kept(searched, project):
    searched({"execution_order": "pass-by-pass"})

    found = [each["choices"] for each in project.record["results"][0]["candidates"]]
    assert [tuple(each.values()) for each in found[:2]] == [(2.0,), (0.5,)]
    assert [[*each] for each in found[2:]] == [["passes.second.factor"]] * 3
    assert len(found) == 5


def test_flows_alternatives_and_passes_left_out_are_choices(searched, project):
    passes = {
        "first": {"type": "Scale", "config": {"factor": 2.0}},
        "second": [{"type": "Scale", "config": {"factor": 0.5}}, {"type": "Retune"}, None],
    }
    searched(passes=passes, pass_flows=[["first", "second"], ["second"]])

    assert [each["choices"] for each in project.record["results"][0]["candidates"]] == [
        {"pass_flows": "first -> second", "passes.second": "Scale"},
        {"pass_flows": "first -> second", "passes.second": "Retune"},
        {"pass_flows": "first -> second", "passes.second": None},
        {"pass_flows": "second", "passes.second": "Scale"},
        {"pass_flows": "second", "passes.second": "Retune"},
    ]


def test_a_point_that_fails_is_shown_and_survived(searched, project):
    passes = {
        "first": [{"type": "Misbehave", "config": {"how": "refuse"}}, {"type": "Scale", "config": {"factor": 1.0}}]
    }
    done = searched(passes=passes)

    assert "trial 1: first=Misbehave: failed: this line is crooked" in done.stderr
    assert best(project) == ("Scale",)


def test_a_search_without_any_result_fails(searched, project):
    done = searched(passes={"first": [{"type": "Misbehave", "config": {"how": "refuse"}}]}, code=1)

    assert project.record["status"] == "failed"
    assert "this line is crooked" in done.stdout


def test_a_failed_point_is_tried_again_by_the_next_run(searched, project):
    passes = {"first": [{"type": "Misbehave", "config": {"how": "refuse"}}, {"type": "Retune"}]}

    shown = [searched(passes=passes).stderr for _ in range(2)]

    assert all("trial 1: first=Misbehave: failed" in each for each in shown)


def test_what_is_best_so_far_is_on_the_disk_while_it_goes_on(searched, project):
    project.config["engine"]["search_strategy"] = True
    project.config["passes"] = {
        "first": [{"type": "Retune"}, {"type": "Misbehave", "config": {"how": "hang"}}],
    }
    running = project.start()
    written = project.folder / "hfopt-output" / "run.json"
    until = time.monotonic() + 30
    while not written.exists() and time.monotonic() < until:
        time.sleep(0.05)

    assert project.record["status"] == "interrupted"
    assert best(project) == ("Retune",)
    assert (project.folder / "hfopt-output" / "best" / "line.json").is_file()
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130


def test_models_of_the_pareto_front_are_marked(searched, project):
    searched()

    (result,) = project.record["results"]
    assert [tuple(each["choices"].values()) for each in result["candidates"] if each["pareto"]] == [(0.5, 2.0)]


def test_models_that_only_their_time_tells_apart_are_timed_in_turn_at_the_end(searched, project):
    figure = {"name": "p50", "metric_config": {"repeat_test_num": 16}}  # few: intervals are wide, and overlap
    latency = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [figure]}
    passes = {"first": {"type": "Scale", "config": {"factor": {"search": [1.0, 2.0, 3.0, 4.0, 5.0]}}}}

    done = searched(passes=passes, evaluators={"e": {"metrics": [latency]}})

    (result,) = project.record["results"]
    found = [each for each in result["candidates"] if eligible(each)]
    fastest = min(found, key=merit)
    _, close = rivals(fastest, [each for each in found if each is not fastest])
    assert len(result["finals"]) == len(close)  # a burst of other work may set one apart
    best = fastest["id"]
    for final in result["finals"]:
        assert final["incumbent"] == best
        assert final["metric"] == "latency-p50"
        assert final["speedup"]["value"] > 0
        best = final["challenger"] if final["speedup"]["value"] > 1 else best
    assert {final["challenger"] for final in result["finals"]} == {each["id"] for each in close}
    assert result["best"] == best
    assert ("latency-p50: timed in turn, trial " in done.stdout) is bool(close)


def model(name, goals=True, **figures):
    """A candidate with an accuracy, a latency relative to the input model's, and a size."""
    known = {
        "accuracy": {"unit": "proportion", "higher_is_better": True, "priority": figures.pop("accuracy_first", 1)},
        "latency": {"unit": "ms", "higher_is_better": False, "priority": 2},
    }
    metrics = {key: {**known[key], "value": value} for key, value in figures.items()}
    if "latency" in metrics:
        ratio = 10 / metrics["latency"]["value"]
        metrics["latency"]["speedup"] = {"value": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio}
    missed = 0.0 if goals else 0.1
    return {"id": name, "status": "succeeded", "goals_met": goals, "goals_missed_by": missed, "metrics": metrics}


def test_rivals_are_as_good_in_all_that_counts_more_and_as_fast_within_their_intervals():
    best = model("best", accuracy=0.9, latency=2.0)
    others = [
        model("as fast", accuracy=0.9, latency=2.1),
        model("slower", accuracy=0.9, latency=3.0),
        model("worse", accuracy=0.8, latency=2.0),
        model("goals missed", goals=False, accuracy=0.9, latency=2.0),
    ]

    key, close = rivals(best, others)

    assert key == "latency"
    assert [each["id"] for each in close] == ["as fast"]


def test_what_misses_its_goals_least_is_the_best_of_models_that_all_miss_them():
    near, far = (
        model(name, goals=False, accuracy=0.9, latency=latency) for name, latency in (("near", 3.0), ("far", 1.0))
    )
    met = model("met", accuracy=0.8, latency=4.0)
    near["goals_missed_by"] = 0.01

    assert [each["id"] for each in sorted([far, near, met], key=merit)] == ["met", "near", "far"]


def test_the_front_has_what_nothing_else_is_better_than():
    models = [
        model("accurate", accuracy=0.95, latency=5.0),
        model("fast", accuracy=0.8, latency=1.0),
        model("between", accuracy=0.9, latency=2.0),
        model("worse in both", accuracy=0.85, latency=2.5),
    ]

    assert {each["id"] for each in front(models)} == {"accurate", "fast", "between"}


def test_a_model_that_is_slower_beyond_doubt_is_chosen_only_where_a_goal_asks_for_size():
    slower = model("slower", accuracy=0.99, latency=12.0)

    assert not eligible(slower)
    slower["metrics"]["size"] = {"unit": "bytes", "value": 3, "higher_is_better": False, "priority": 3, "goal": {}}
    assert eligible(slower)


def test_an_evaluator_of_the_last_pass_is_enough_to_choose_by_and_without_any_there_is_no_search(searched, project):
    del project.config["engine"]["evaluator"]
    passes = {"first": {"type": "Scale", "config": {"factor": {"search": [2.0, 1.0]}}}}

    done = searched(passes=passes, code=2)

    assert "engine.search_strategy: needs figures to choose by: set engine.evaluator" in done.stderr
    passes["first"]["evaluator"] = "e"
    searched(passes=passes)
    assert best(project) == (1.0,)


REFUSALS = {
    "values without a search": (
        {"first": {"type": "Scale", "config": {"factor": {"search": [1.0, 2.0]}}}},
        None,
        "passes.first.config.factor: has several values, and engine.search_strategy is not set",
    ),
    "values where search is disabled": (
        {"first": {"type": "Scale", "disable_search": True, "config": {"factor": {"search": [1.0, 2.0]}}}},
        True,
        "passes.first.config.factor: has several values, and disable_search is true",
    ),
    "a value of the wrong type": (
        {"first": {"type": "Scale", "config": {"factor": {"search": [1.0, "wide"]}}}},
        True,
        'passes.first.config.factor: "wide": expected a number, got a string',
    ),
    "nothing to choose from": (
        {"first": {"type": "Scale", "config": {"factor": {"search": []}}}},
        True,
        "passes.first.config.factor: a search needs a list of values",
    ),
    "values of its own that it does not have": (
        {"first": {"type": "Scale", "config": {"factor": "SEARCHABLE_VALUES"}}},
        True,
        "passes.first.config.factor: this pass has no values of its own for it",
    ),
    "an unknown algorithm": (
        {"first": {"type": "Scale"}},
        {"search_algorithm": "exhaustiv"},
        "engine.search_strategy.search_algorithm: no search algorithm named 'exhaustiv'",
    ),
    "an unknown option of an algorithm": (
        {"first": {"type": "Scale"}},
        {"search_algorithm": "random", "search_algorithm_config": {"num_sample": 3}},
        "engine.search_strategy.search_algorithm_config.num_sample: unknown key",
    ),
    "far too many combinations": (
        {
            "first": {
                "type": "Scale",
                "config": {"factor": {"search": [*range(50)]}, "seconds": {"search": [*range(50)]}},
            }
        },
        True,
        "passes.first.config: has 2,500 combinations of values, more than the 2,000 that are checked",
    ),
    "only passes left out": ({"first": [None]}, True, "passes.first: names no pass"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_mistakes_are_told_before_anything_runs(searched, project, case):
    passes, strategy, message = REFUSALS[case]

    done = searched(strategy, passes=passes, code=2)

    assert message in done.stderr
    assert project.executed == []


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ({"search": [1.0, 2.0]}, [1.0, 2.0]),
        ({"olive_parameter_type": "SearchParameter", "type": "Categorical", "support": [1.0, 2.0]}, [1.0, 2.0]),
        ("DEFAULT_VALUE", []),
    ],
    ids=["a list", "search", "Categorical", "DEFAULT_VALUE"],
)
def test_values_may_be_written_in_several_ways(searched, project, written, values):
    searched(passes={"first": {"type": "Scale", "config": {"factor": written}}})

    assert [each for (each,) in filter(None, choices(project))] == values


def test_values_that_depend_on_another_option_go_with_its_values_only(searched, project):
    conditional = {
        "olive_parameter_type": "SearchParameter",
        "type": "Conditional",
        "parents": ["factor"],
        "support": {"1.0": {"olive_parameter_type": "SearchParameter", "type": "Categorical", "support": [0.0, 0.01]}},
        "default": 0.02,
    }
    searched(passes={"first": {"type": "Scale", "config": {"factor": [1.0, 2.0], "seconds": conditional}}})

    assert choices(project) == [(1.0, 0.0), (1.0, 0.01), (2.0, 0.02)]


def test_values_that_change_nothing_are_one_point(searched, project):
    searched(passes={"first": {"type": "Retune", "config": {"unused": {"search": [0, 1, 2]}}}})

    assert choices(project) == [(0,)]

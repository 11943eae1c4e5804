"""Goals, evaluators of passes, and what else the engine section asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hfopt.config.schema import Goal
from hfopt.engine.summary import text_of

# value, of which metric the baseline is 0.8 (or, where lower is better, 10): what is needed, as Olive computes it
LIMITS = [
    ("threshold", 0.7, 0.8, True, 0.7),
    ("threshold", 12, 10, False, 12),
    ("max-degradation", 0.05, 0.8, True, 0.75),
    ("max-degradation", 2, 10, False, 12),
    ("min-improvement", 0.05, 0.8, True, 0.85),
    ("min-improvement", 2, 10, False, 8),
    ("percent-max-degradation", 10, 0.8, True, 0.72),
    ("percent-max-degradation", 10, 10, False, 11),
    ("percent-min-improvement", 10, 0.8, True, 0.88),
    ("percent-min-improvement", 10, 10, False, 9),
]


@pytest.mark.parametrize(("kind", "value", "baseline", "higher", "limit"), LIMITS)
def test_a_goal_is_met_at_its_limit_and_missed_beyond(kind, value, baseline, higher, limit):
    goal = Goal(type=kind, value=value)

    assert goal.limit(baseline, higher) == pytest.approx(limit)
    worse = -1e-6 if higher else 1e-6
    assert goal.missed_by(goal.limit(baseline, higher), baseline, higher) == 0
    assert goal.missed_by(limit + 2 * worse, baseline, higher) > 0


def with_goal(project, kind, value):
    project.config["evaluators"]["e"]["metrics"][0]["sub_types"][0]["goal"] = {"type": kind, "value": value}
    return project


def test_a_missed_goal_is_exit_code_1_and_the_model_is_saved_all_the_same(project):
    done = with_goal(project, "threshold", 1).run()

    assert done.returncode == 1
    assert project.record["status"] == "goals_not_met"
    assert project.candidate["goals_met"] is False
    assert "goal MISSED: accuracy-accuracy: threshold 1 (>= 100.00 %), got" in done.stdout
    assert (project.folder / "hfopt-output" / "best" / "line.json").exists()


def test_goals_that_are_all_thresholds_count_too(project):
    done = with_goal(project, "threshold", 0.1).run()

    assert done.returncode == 0
    assert project.record["status"] == "succeeded"
    assert project.candidate["goals_met"] is True
    assert "goal met: accuracy-accuracy: threshold 0.1 (>= 10.00 %), got" in done.stdout


def test_without_goals_none_is_met_or_missed(project):
    assert project.run().returncode == 0

    assert project.candidate["goals_met"] is None


def test_a_relative_goal_needs_the_input_model(project):
    with_goal(project, "max-degradation", 0.1)
    project.config["engine"]["evaluate_input_model"] = False

    done = project.run()

    assert done.returncode == 2
    assert "the goal of accuracy-accuracy is relative to the input model, which is not evaluated" in done.stderr


def test_an_input_model_that_is_not_evaluated_has_no_accuracy(project):
    project.config["engine"]["evaluate_input_model"] = False

    assert project.run().returncode == 0

    assert list(project.record["results"][0]["input_model"]["metrics"]) == ["size-bytes"]
    assert project.candidate["metrics"]["accuracy-accuracy"]["difference"] is None


def test_a_pass_with_its_own_evaluator_is_a_candidate_and_the_last_is_the_result(project):
    project.config["passes"]["first"]["evaluator"] = {"metrics": [{"name": "size", "type": "size"}]}

    done = project.run()

    assert done.returncode == 0, done.stderr
    first, last = project.record["results"][0]["candidates"]
    assert list(first["metrics"]) == ["size-bytes"]
    assert list(last["metrics"]) == ["accuracy-accuracy", "accuracy-mean", "size-bytes"]
    assert project.record["results"][0]["best"] == last["id"]
    assert "after first" in done.stdout


def test_a_goal_that_is_missed_after_an_earlier_pass_counts(project):
    tiny = {"name": "bytes", "goal": {"type": "threshold", "value": 1}}
    project.config["passes"]["first"]["evaluator"] = {
        "metrics": [{"name": "size", "type": "size", "sub_types": [tiny]}]
    }

    done = project.run()

    assert done.returncode == 1
    assert project.record["status"] == "goals_not_met"
    assert [each["goals_met"] for each in project.record["results"][0]["candidates"]] == [False, None]
    assert "goal MISSED: size-bytes" in done.stdout


def test_an_evaluator_of_the_last_pass_goes_instead_of_the_engines_and_a_notice_says_so(project):
    last = list(project.config["passes"])[-1]
    with_goal(project, "threshold", 1).config["passes"][last]["evaluator"] = {
        "metrics": [{"name": "size", "type": "size"}]
    }

    done = project.run()

    assert done.returncode == 0
    assert f"note: engine.evaluator is ignored: passes.{last} is the last pass, and has one of its own\n" in done.stderr
    assert list(project.candidate["metrics"]) == ["size-bytes"]


def test_figures_that_fail_after_an_earlier_pass_leave_a_result_and_fail_the_run(project):
    project.config["data_configs"].append({**project.config["data_configs"][0], "name": "none"})
    (project.folder / "none.json").write_text("[]")
    project.config["data_configs"][-1]["params_config"] = {"data_file": "none.json"}
    metric = project.config["evaluators"]["e"]["metrics"][0] | {"data_config": "none"}
    project.config["passes"]["first"]["evaluator"] = {"metrics": [metric]}

    done = project.run()

    assert done.returncode == 1
    assert project.record["status"] == "failed"
    assert "no figures after first: data none: the data has no rows" in done.stdout
    assert "no result" not in done.stdout
    assert (project.folder / "hfopt-output" / "best" / "model.json").is_file()


def test_an_evaluator_may_be_written_out_in_place(project):
    project.config["engine"]["evaluator"] = project.config["evaluators"].pop("e")

    assert project.run().returncode == 0

    assert "accuracy-accuracy" in project.candidate["metrics"]


def test_the_model_of_a_pass_with_an_output_name_is_saved_too(project):
    project.config["passes"]["first"]["output_name"] = "doubled"

    assert project.run().returncode == 0

    saved = json.loads((project.folder / "hfopt-output" / "doubled" / "line.json").read_text())
    assert saved == {"slope": 1.0}
    assert json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text()) == {"slope": 0.75}


def test_data_are_looked_for_below_data_root_first(project):
    (project.folder / "elsewhere").mkdir()
    (project.folder / "elsewhere" / "points.json").write_text("[[1.0, 0], [2.0, 1]]")
    project.config["data_root"] = "elsewhere"

    assert project.run().returncode == 0

    assert project.candidate["metrics"]["accuracy-accuracy"]["n"] == 2


def test_a_pass_may_have_a_host_of_its_own(project):
    project.config["systems"] = {"other": {"type": "LocalSystem"}}
    project.config["passes"]["second"]["host"] = "other"

    assert project.run().returncode == 0


@pytest.mark.parametrize(("level", "logged"), [(1, ["a fact", "a failure"]), (3, ["a failure"]), (4, [])])
def test_the_log_has_what_the_severity_lets_through(project, misbehave, level, logged):
    project.config["engine"]["log_severity_level"] = level

    assert misbehave("log").returncode == 0

    log = (project.folder / "hfopt-output" / "hfopt.log").read_text()
    assert [text for text in ("a fact", "a failure") if text in log] == logged


def test_an_output_name_is_a_folder_for_the_result(project):
    project.config["engine"]["output_name"] = "mine"

    assert project.run().returncode == 0

    assert (project.folder / "hfopt-output" / "mine" / "run.json").exists()
    assert (project.folder / "hfopt-output" / "mine" / "best" / "line.json").exists()


def test_timings_of_several_candidates_are_each_shown_beside_the_one_that_they_were_made_with():
    def figure(value, difference):
        goal = {"type": "percent-min-improvement", "value": 50}
        between = None if difference is None else {"value": difference, "low": difference - 1, "high": difference + 1}
        ends = {"low": value - 1, "high": value + 1, "unit": "ms", "higher_is_better": False}
        return {"latency-avg": {"value": value, "difference": between, "goal": goal, **ends}}

    def candidate(key, value, difference):
        step = {"name": key, "key": key}
        times = (value - difference) / value
        speedup = {"value": times, "low": times - 0.1, "high": times + 0.1}
        return {
            "id": key,
            "status": "succeeded",
            "choices": {},
            "steps": [step],
            "size_bytes": 1,
            "metrics": {"latency-avg": figure(value, difference)["latency-avg"] | {"speedup": speedup}},
        }

    record = {
        "status": "succeeded",
        "results": [{
            "accelerator": {"device": "cpu", "execution_provider": "CPUExecutionProvider"},
            "input_model": {"size_bytes": 1, "metrics": figure(10, None)},
            "candidates": [candidate("first", 8, -12), candidate("second", 5, -5)],
            "best": "second",
        }],
    }  # fmt: skip

    shown = text_of(record, Path())

    assert re.search(r"latency-avg │ +20.00 ms │ +8.00 ms \[7.00, 9.00\]", shown)
    assert re.search(r"latency-avg │ 10.00 ms \[9.00, 11.00\] │ 5.00 ms \[4.00, 6.00\]", shown)
    assert "2.50 times as fast [2.40, 2.60]" in shown
    assert "(<= 10.00 ms), got 8.00 ms" in shown


def test_a_result_of_an_earlier_run_that_stays_is_mentioned(project, misbehave):
    assert project.run().returncode == 0

    done = misbehave("refuse")

    assert done.returncode == 1
    assert "hfopt-output/best still has the result of an earlier run" in done.stdout


def test_a_traceback_on_request_does_not_change_the_exit_code(project):
    project.config["engine"]["host"] = "nowhere"

    done = project.run("--verbose")

    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(": engine.host: no system named 'nowhere'; there is local_system")


def test_an_output_that_can_not_be_written_is_a_sentence_and_loses_no_step(project):
    (project.folder / "hfopt-output" / "run.json" / "in the way").mkdir(parents=True)

    done = project.run()

    assert done.returncode == 1
    assert done.stderr.endswith(
        f"hfopt: {project.folder}/hfopt-output/run.json: the result can't be written: Is a directory\n"
        "  hint: finished steps are in the cache: mend the folder or name another with --output-dir, then run again\n"
    )
    again = project.run("--output-dir", "elsewhere")
    assert again.returncode == 0
    assert project.executed.count("Scale 2.0") == 1


def test_a_device_without_a_provider_gets_the_devices_own(project):
    project.config["systems"] = {"here": {"type": "LocalSystem", "config": {"accelerators": [{"device": "gpu"}]}}}
    project.config["engine"]["target"] = "here"

    assert project.run().returncode == 0

    assert project.record["results"][0]["accelerator"] == {
        "device": "gpu",
        "execution_provider": "CUDAExecutionProvider",
    }

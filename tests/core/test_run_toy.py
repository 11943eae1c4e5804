"""`hfopt run` from end to end, on steps that need no framework."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

STEPS = [
    "input_model", "first", "second", "third", "data points", "predict input_model", "predict third", "score third",
]  # fmt: skip


def test_run_json_has_the_shape_of_the_public_contract(project):
    assert project.run().returncode == 0

    record = project.record
    assert list(record) == [
        "schema", "hfopt", "status", "config", "results", "skipped_accelerators", "environment", "started", "ended",
    ]  # fmt: skip
    assert (record["schema"], record["status"], record["config"]) == (1, "succeeded", project.config)
    (result,) = record["results"]
    assert list(result) == ["accelerator", "system", "input_model", "candidates", "finals", "chosen", "best"]
    assert result["accelerator"] == {"device": "cpu", "execution_provider": "CPUExecutionProvider"}
    assert list(result["input_model"]) == ["id", "size_bytes", "metrics"]
    (candidate,) = result["candidates"]
    assert list(candidate) == [
        "id", "status", "error", "steps", "size_bytes", "metrics", "goals_met", "goals_missed_by", "pareto", "choices",
    ]  # fmt: skip
    assert result["best"] == candidate["id"]
    assert [step["name"] for step in candidate["steps"]] == STEPS
    assert list(candidate["steps"][0]) == [
        "name", "type", "config", "key", "cached", "seconds", "peak_rss_bytes", "attempts",
    ]  # fmt: skip
    metric = candidate["metrics"]["accuracy-accuracy"]
    assert list(metric) == ["value", "low", "high", "n", "unit", "higher_is_better", "difference", "priority"]


def test_numbers_are_those_that_the_rows_give(project):
    assert project.run().returncode == 0
    points = np.array(json.loads((project.folder / "points.json").read_text()))

    before = project.record["results"][0]["input_model"]["metrics"]
    after = project.candidate["metrics"]

    assert before["accuracy-accuracy"]["value"] == np.mean((0.5 * points[:, 0] > 1) == points[:, 1])
    assert after["accuracy-accuracy"]["value"] == np.mean((0.75 * points[:, 0] > 1) == points[:, 1])
    assert after["accuracy-accuracy"]["n"] == 200
    difference = after["accuracy-accuracy"]["difference"]
    assert difference["value"] == pytest.approx(
        after["accuracy-accuracy"]["value"] - before["accuracy-accuracy"]["value"]
    )
    assert difference["low"] < difference["value"] < difference["high"] < 0
    assert before["accuracy-accuracy"]["difference"] is None
    assert after["size-bytes"]["value"] == len('{"slope": 0.75}')
    assert [figure["priority"] for figure in after.values()] == [1, 2, 3]


def test_the_first_line_says_what_got_worse_by_more_than_chance_explains(project):
    worse = project.run().stdout.splitlines()[0]
    project.config["passes"]["second"]["config"]["factor"] = 0.5
    same = project.run().stdout

    lost = r"accuracy-accuracy: WORSE than the input model by more than chance explains: -\d+\.\d\d points \[-.+, -.+\]"
    assert re.fullmatch(lost, worse)
    assert "WORSE" not in same


def test_latency_is_measured_for_both_models_and_says_which_is_slower(project):
    timing = {"warmup_num": 1, "repeat_test_num": 16}
    project.config["evaluators"]["e"]["metrics"] = [
        {
            "name": "latency",
            "type": "latency",
            "data_config": "points",
            "sub_types": [{"name": "p50", "metric_config": timing}, {"name": "max"}],
        }
    ]
    project.config["passes"]["third"]["config"]["delay"] = 0.02

    done = project.run()

    metrics = project.candidate["metrics"]
    assert metrics["latency-p50"]["value"] >= 20
    assert metrics["latency-p50"]["n"] == 16
    assert metrics["latency-p50"]["difference"]["low"] > 0
    assert "times SLOWER than the input model" in done.stdout.splitlines()[0]


def test_a_single_run_has_no_interval_and_proves_no_speed(project):
    once = {"warmup_num": 0, "repeat_test_num": 1}
    figure = {"name": "avg", "metric_config": once}
    metric = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [figure]}
    project.config["evaluators"]["e"]["metrics"] = [metric]

    done = project.run()

    latency = project.candidate["metrics"]["latency-avg"]
    assert (latency["n"], latency["low"], latency["difference"]["high"]) == (1, None, None)
    assert "times as fast, by too few runs to be sure: raise repeat_test_num" in done.stdout
    assert "SLOWER" not in done.stdout


def test_the_time_per_token_is_that_of_models_that_write_text(project):
    metric = {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [{"name": "tpot"}]}
    project.config["evaluators"]["e"]["metrics"] = [metric]

    done = project.run()

    assert "the input model can't be timed: it does not write text, token by token" in done.stderr


def test_throughput_comes_from_the_same_timings_as_latency_and_other_settings_from_timings_of_their_own(project):
    timing = {"warmup_num": 1, "repeat_test_num": 16}
    alike = [{"name": "avg", "metric_config": timing}, {"name": "max"}]
    project.config["evaluators"]["e"]["metrics"] = [
        {"name": "latency", "type": "latency", "data_config": "points", "sub_types": [*alike, {"name": "min"}]},
        {"name": "throughput", "type": "throughput", "data_config": "points", "sub_types": alike},
        {
            "name": "short",
            "type": "latency",
            "data_config": "points",
            "sub_types": [{"name": "avg", "metric_config": {"repeat_test_num": 8}}],
        },
    ]
    project.config["passes"]["third"]["config"]["delay"] = 0.002

    assert project.run().returncode == 0

    metrics = project.candidate["metrics"]
    assert metrics["throughput-avg"]["value"] == pytest.approx(1_000 / metrics["latency-avg"]["value"])
    assert metrics["throughput-max"]["value"] == pytest.approx(1_000 / metrics["latency-min"]["value"])
    assert (metrics["throughput-avg"]["unit"], metrics["throughput-avg"]["higher_is_better"]) == ("rows/s", True)
    assert metrics["throughput-avg"]["difference"]["high"] < 0
    assert (metrics["latency-avg"]["n"], metrics["short-avg"]["n"]) == (16, 8)
    assert list(project.cached()).count("measure third") == 1
    assert len([step for step in project.candidate["steps"] if step["name"] == "measure third"]) == 2


def test_a_second_run_executes_nothing_and_writes_the_same_results(project):
    assert project.run().returncode == 0
    first, executed = project.record["results"], project.executed
    made = (project.folder / "hfopt-output" / "best").stat().st_mtime_ns

    done = project.run()

    assert "9 steps, 9 of them in the cache" in done.stderr
    assert project.executed == executed
    assert all(project.cached().values())
    assert project.record["results"][0]["candidates"][0]["metrics"] == first[0]["candidates"][0]["metrics"]
    assert (project.folder / "hfopt-output" / "best").stat().st_mtime_ns == made


def test_a_changed_metric_scores_again_and_runs_no_pass_and_no_model(project):
    assert project.run().returncode == 0
    executed = project.executed
    project.config["evaluators"]["e"]["metrics"][0]["sub_types"] = [{"name": "mean", "priority": 2}]

    assert project.run().returncode == 0

    assert project.executed == executed
    assert [name for name, cached in project.cached().items() if not cached] == ["score third"]


def test_a_changed_option_runs_from_there_on(project):
    assert project.run().returncode == 0
    project.config["passes"]["second"]["config"]["factor"] = 0.5

    assert project.run().returncode == 0

    assert [name for name, cached in project.cached().items() if not cached] == [
        "second",
        "third",
        "predict third",
        "score third",
    ]
    assert json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text()) == {"slope": 0.5}


def test_a_changed_data_file_is_noticed_and_a_touched_one_is_not(project):
    assert project.run().returncode == 0
    data = project.folder / "points.json"
    os.utime(data, ns=(1, 1))
    assert project.run().returncode == 0
    assert all(project.cached().values())

    data.write_text("[[1.0, 1], [3.0, 1]]")
    assert project.run().returncode == 0

    assert [name for name, cached in project.cached().items() if not cached] == [
        "data points", "predict input_model", "predict third", "score third",
    ]  # fmt: skip
    assert project.candidate["metrics"]["accuracy-accuracy"]["n"] == 2


def test_a_moved_project_finds_its_cache_again(project):
    assert project.run().returncode == 0
    moved = project.folder / "moved"
    moved.mkdir()
    for name in ("line.json", "points.json", ".hfopt-cache"):
        (project.folder / name).rename(moved / name)
    project.folder = moved

    assert project.run().returncode == 0

    assert all(project.cached().values())


def test_an_input_may_be_written_by_way_of_another_folder(project):
    (project.folder / "configs").mkdir()
    project.config["input_model"]["config"]["model_path"] = "configs/../line.json"

    assert project.run().returncode == 0
    assert project.run().returncode == 0
    assert all(project.cached().values())


def test_an_edited_plugin_file_runs_again(project, tmp_path):
    project.plugin = tmp_path / "own.py"
    project.plugin.write_text((__import__("pathlib").Path(__file__).with_name("toy.py")).read_text())
    assert project.run().returncode == 0
    project.plugin.write_text(project.plugin.read_text() + "\n# edited\n")

    assert project.run().returncode == 0

    assert not any(project.cached().values())


def test_a_default_that_is_written_out_changes_nothing(project):
    project.config["passes"]["first"]["config"] = {"factor": 1.0}
    assert project.run().returncode == 0
    project.config["passes"]["first"]["config"] = {"seconds": 0.0}

    assert project.run().returncode == 0

    assert all(project.cached().values())


def test_a_damaged_artifact_is_noticed_and_made_again(project):
    assert project.run().returncode == 0
    key = next(step["key"] for step in project.candidate["steps"] if step["name"] == "second")
    artifact = project.folder / ".hfopt-cache" / "artifacts" / key[:2] / key
    (artifact / "line.json").write_text("{}")

    assert project.run().returncode == 0

    assert [name for name, cached in project.cached().items() if not cached] == ["second", "third"]


FAILURES = {
    "segfault": "the worker was killed by SIGSEGV (a crash in native code)",
    "exit": "the worker ended with exit code 7",
    "raise_": "ZeroDivisionError: division by zero",
    "refuse": "this line is crooked",
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_failed_step_is_a_failed_run_with_its_reason(project, misbehave, how):
    done = misbehave(how)

    assert done.returncode == 1
    assert f"no result: bad: {FAILURES[how]}" in done.stdout
    assert project.record["status"] == "failed"
    assert project.record["results"][0]["best"] is None
    assert project.candidate["error"]["message"] == FAILURES[how]
    assert project.candidate["error"]["step"] == "bad"
    assert not (project.folder / "hfopt-output" / "best").exists()
    assert project.record["results"][0]["input_model"]["metrics"]["accuracy-accuracy"]["n"] == 200


def test_a_bug_in_a_step_leaves_its_traceback_in_the_log(project, misbehave):
    done = misbehave("raise_")

    assert "this looks like a bug; the traceback is in hfopt-output/hfopt.log" in done.stdout
    assert 'raise ZeroDivisionError("division by zero")' in (project.folder / "hfopt-output" / "hfopt.log").read_text()


def test_what_a_step_prints_goes_to_the_log_below_its_name_and_breaks_nothing(project, misbehave):
    done = misbehave("print")

    assert done.returncode == 0
    assert "noise" not in done.stdout + done.stderr
    log = (project.folder / "hfopt-output" / "hfopt.log").read_text()
    told = ["".join(found) for found in re.findall(r"^\S+ (.*): begins$|^(noise.*)$", log, re.M)]
    begun = told.index("bad")
    assert told[begun : begun + 4] == ["bad", "noise on stdout", "noise from a child", "predict input_model"]


def test_json_is_all_that_stdout_gets_on_request(project):
    done = project.run("--json")

    assert json.loads(done.stdout) == project.record


def test_steps_can_run_in_the_process_itself(project):
    done = project.run("--in-process")

    assert done.returncode == 0
    assert project.record["status"] == "succeeded"


def test_output_goes_where_the_command_line_says(project):
    assert project.run("--output-dir", "elsewhere").returncode == 0

    assert (project.folder / "elsewhere" / "run.json").exists()
    assert not (project.folder / "hfopt-output").exists()


def test_an_output_folder_that_can_not_be_made_is_a_usage_error(project):
    (project.folder / "taken").write_text("")

    done = project.run("--output-dir", "taken")

    assert done.returncode == 2
    assert done.stderr == f"hfopt: {project.folder}/taken: is not a folder\n"


def test_best_stands_on_its_own_and_its_readme_runs(project, tmp_path):
    assert project.run().returncode == 0
    best = project.folder / "hfopt-output" / "best"

    assert sorted(path.name for path in best.iterdir()) == ["README.md", "line.json", "model.json"]
    assert str(project.folder) not in (best / "model.json").read_text()
    snippet = (best / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", snippet + "\nprint(slope)"], cwd=best, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0.75\n"


def test_the_log_tells_what_happened_when_also_of_a_run_that_repeats_nothing(project):
    project.run()
    done = project.run()

    lines = (project.folder / "hfopt-output" / "hfopt.log").read_text().splitlines()
    assert done.returncode == 0
    told = [re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 (.*)", line) for line in lines]
    texts = [found[1] for found in told if found]
    first, second = (texts[start:] for start in [n for n, text in enumerate(texts) if text.startswith("hfopt ")])
    total = next(text.split(" ")[0] for text in first if text.endswith(" steps, 0 of them in the cache"))
    assert f"{total} steps, {total} of them in the cache" in second
    assert any(re.fullmatch(r"first: \d\.\d s, toy:Scale, [0-9a-f]{12}", text) for text in first)
    assert any(text.startswith("third: in the cache, toy:Retune, ") for text in second)


def test_secrets_of_the_environment_do_not_reach_workers(project, misbehave, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert misbehave("show_environment").returncode == 0

    assert "hf_secret" not in (project.folder / "hfopt-output" / "hfopt.log").read_text()
    assert "HF_HUB_DISABLE_TELEMETRY" in (project.folder / "hfopt-output" / "hfopt.log").read_text()


def test_a_worker_can_read_the_hubs_token_and_what_it_starts_can_not(project, misbehave, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert misbehave("use_the_token").returncode == 0

    log = (project.folder / "hfopt-output" / "hfopt.log").read_text()
    assert f"token {sha256(b'hf_secret').hexdigest()} True b''" in log


HOOKS = """
from hfopt import hookimpl

@hookimpl
def hfopt_before_run(plan): print("before run", len(plan.steps()))

@hookimpl
def hfopt_before_step(step, key): print("before", step.name)

@hookimpl
def hfopt_after_step(step, key, metrics): print("after", step.name, sorted(metrics))

@hookimpl
def hfopt_on_step_error(step, key, message): print("error", step.name, message)

@hookimpl
def hfopt_after_run(record):
    print("after run", record["status"])
    raise RuntimeError("a hook failed")
"""


def test_lifecycle_hooks_are_called_in_order_and_a_failing_one_is_a_notice(project, misbehave):
    (project.folder / "own.py").write_text(HOOKS)
    project.config["engine"] = {}
    project.config["passes"] = {"bad": {"type": "Misbehave", "config": {"how": "refuse"}}}

    done = project.run("-p", "own.py", "--json")

    assert [line for line in done.stdout.splitlines() if line.startswith(("before", "after", "error"))] == [
        "before run 2",
        "before input_model",
        "after input_model []",
        "before bad",
        "error bad this line is crooked",
        "after run failed",
    ]
    assert "note: plugin own: hfopt_after_run failed: RuntimeError: a hook failed" in done.stderr


def test_a_damaged_result_is_noticed_made_again_and_handed_out_whole(project):
    assert project.run().returncode == 0
    best = project.folder / "hfopt-output" / "best" / "line.json"
    whole = best.read_text()
    key = next(step["key"] for step in project.candidate["steps"] if step["name"] == "third")
    (line,) = (project.folder / ".hfopt-cache" / "artifacts").glob(f"{key[:2]}/{key}/model.json")
    line.chmod(0o644)
    line.write_text(line.read_text().replace("Line", "Lime"))
    best.write_text(whole.replace("0", "9", 1))

    again = project.run()

    assert again.returncode == 0
    assert "third is done again: its result in the cache is not intact: model.json has changed" in again.stderr
    assert [name for name, cached in project.cached().items() if not cached] == ["third"]
    assert best.read_text() == whole


@pytest.mark.parametrize("name", ["artifacts", "making", "locks"])
def test_a_cache_whose_folder_is_a_link_is_left_alone(project, name):
    elsewhere = project.folder / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    (project.folder / ".hfopt-cache").mkdir()
    (project.folder / ".hfopt-cache" / name).symlink_to(elsewhere, target_is_directory=True)

    refused = project.run()

    assert refused.returncode == 2
    assert f"/.hfopt-cache/{name} is a symbolic link, which is not followed" in refused.stderr
    assert list(elsewhere.iterdir()) == [elsewhere / "precious"]

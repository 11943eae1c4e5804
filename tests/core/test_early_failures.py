"""What can fail early does, and then nothing is run for no result."""

from __future__ import annotations

import json


def test_data_that_fail_keep_every_pass_from_running(project):
    (project.folder / "points.json").write_text("not JSON")

    done = project.run()

    assert done.returncode == 1
    assert project.executed == []
    assert "no result: data points: JSONDecodeError" in done.stdout
    steps = {step["name"]: step for step in project.candidate["steps"]}
    assert steps["first"]["seconds"] is None


def test_data_without_labels_fail_before_anything_is_converted(project):
    points = json.loads((project.folder / "points.json").read_text())
    (project.folder / "points.json").write_text(json.dumps([[x, None] for x, _ in points]))

    done = project.run()

    assert done.returncode == 1
    assert project.executed == []
    assert "no result: predict input_model: the data has no labels" in done.stdout
    assert "hint: name the label column in label_cols" in done.stderr
    assert project.run().returncode == 1
    assert project.executed == []


def test_data_without_rows_fail_before_anything_is_converted(project):
    (project.folder / "points.json").write_text("[]")

    done = project.run()

    assert "no result: data points: the data has no rows" in done.stdout
    assert project.executed == []


def test_what_no_result_needs_any_more_is_not_run(project):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "refuse"}}

    assert project.run().returncode == 1

    assert project.executed == ["Scale 2.0"]
    assert "accuracy-accuracy" in project.record["results"][0]["input_model"]["metrics"]


def test_a_model_that_is_saved_on_the_way_is_made_although_the_data_fail(project):
    (project.folder / "points.json").write_text("not JSON")
    project.config["passes"]["first"]["output_name"] = "halfway"

    assert project.run().returncode == 1

    assert project.executed == ["Scale 2.0"]
    assert json.loads((project.folder / "hfopt-output" / "halfway" / "line.json").read_text()) == {"slope": 1.0}

"""The outputs of a pass's model, compared with those of the model that it got."""

from __future__ import annotations

import json

import pytest


def only(project, **section):
    project.config["passes"] = {"only": section}


def step(project):
    return next(step for step in project.candidate["steps"] if step["name"] == "only")


def report(project):
    key = step(project)["key"]
    places = project.folder.glob(f".hfopt-cache/artifacts/*/{key}/manifest.json")
    return json.loads(next(places).read_text())["report"]


def scaled(project, factor, kind="Scale", **section):
    only(project, type=kind, config={"factor": factor}, **section)
    return project.run()


def test_any_pass_is_compared_on_request_and_a_difference_fails_it(project):
    done = scaled(project, 1.001, parity=True)

    assert done.returncode == 1
    assert "only: the new model computes something else: y differs by " in done.stdout
    assert 'write "parity": {"on_difference": "warn"} beside the pass\'s type to keep it all the same' in done.stderr
    assert project.candidate["status"] == "failed"


def test_what_agrees_is_kept_with_the_worst_case_of_each_output(project):
    assert scaled(project, 1.00005, parity=True).returncode == 0

    compared = report(project)["parity"]
    assert compared["agree"]
    assert 0.4 < compared["outputs"]["y"]["difference"] / compared["outputs"]["y"]["allowed"] < 0.6


@pytest.mark.parametrize("parity", [{"relative": 0.002}, {"absolute": 100}], ids=str)
def test_the_tolerance_can_be_stated(project, parity):
    assert scaled(project, 1.001, parity=parity).returncode == 0
    assert report(project)["parity"]["agree"]


def test_a_difference_can_be_a_warning(project):
    done = scaled(project, 1.001, parity={"on_difference": "warn"})

    assert done.returncode == 0
    assert "the new model computes something else: y differs by " in done.stderr
    assert report(project)["parity"]["agree"] is False


def test_a_pass_that_should_change_nothing_is_compared_unless_told_otherwise(project):
    assert scaled(project, 1.001, kind="Polish").returncode == 1
    assert scaled(project, 1.001, kind="Polish", parity=False).returncode == 0
    assert "parity" not in report(project)
    assert scaled(project, 1.001).returncode == 0
    assert "parity" not in report(project)


def test_another_tolerance_runs_the_pass_again_and_the_same_one_does_not(project):
    scaled(project, 1.001, parity={"relative": 0.01})
    assert not step(project)["cached"]
    scaled(project, 1.001, parity={"relative": 0.01})
    assert step(project)["cached"]

    assert scaled(project, 1.001, parity={"relative": 1e-6}).returncode == 1


def test_a_model_that_does_not_run_the_examples_is_not_compared_and_that_is_said(project):
    (project.folder / "line.json").write_text('{"slope": null}')
    only(project, type="Retune", parity=True)
    project.config["engine"] = {}

    done = project.run()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "not compared with the model before, which can't run the examples: the line has no slope" in done.stderr


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("yes", "passes.only.parity: expected true or false or an object"),
        ({"relative": 0}, "passes.only.parity.relative: "),
        ({"relativ": 1}, "did you mean 'relative'?"),
    ],
)
def test_mistakes_are_told_with_their_place(project, written, message):
    done = scaled(project, 1.0, parity=written)

    assert done.returncode == 2
    assert message in done.stderr


def test_a_model_that_a_pass_leaves_as_it_is_is_not_compared_with_itself(project):
    only(project, type="Misbehave", config={"how": "tell"}, parity=True)

    assert project.run().returncode == 0
    assert "parity" not in report(project)

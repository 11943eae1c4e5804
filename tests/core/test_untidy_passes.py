"""What a pass returns is checked before it is kept, and what it was given to read stays as it was."""

from __future__ import annotations

import json

import pytest

from hfopt.cache.store import ArtifactStore


@pytest.fixture
def untidy(project):
    """Runs a config whose second pass is untidy in the given way."""

    def run(how, **more):
        project.config["passes"] = {
            **({} if "alone" in more else {"first": project.config["passes"]["first"]}),
            "bad": {"type": "Untidy", "config": {"how": how}},
        }
        return project.run()

    return run


@pytest.mark.parametrize("how", ["write_into_its_input", "shorten_its_input"])
def test_a_pass_that_changes_an_earlier_result_fails_by_name_and_nothing_changed_is_reused(project, untidy, how):
    done = untidy(how)

    assert done.returncode == 1
    assert (
        "no result: bad: toy:Untidy has changed what it was given to read: line.json has changed in the result of first"
    ) in done.stdout
    project.config["passes"] = {"first": project.config["passes"]["first"]}
    assert project.run().returncode == 0
    assert [line for line in project.executed if line.startswith("Scale")] == ["Scale 2.0", "Scale 2.0"]
    assert json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text()) == {"slope": 1.0}


def test_an_earlier_result_that_was_changed_is_no_result_any_more_and_the_record_says_why(project):
    project.config["passes"] = {
        "first": {**project.config["passes"]["first"], "evaluator": "e", "output_name": "halfway"},
        "bad": {"type": "Untidy", "config": {"how": "shorten_its_input"}},
    }

    assert project.run().returncode == 1

    (result,) = project.record["results"]
    assert [each["status"] for each in result["candidates"]] == ["failed", "failed"]
    assert result["candidates"][0]["error"]["message"] == "its result was changed by bad"
    assert project.run().returncode == 1
    assert project.executed.count("Scale 2.0") == 2


def test_a_pass_that_changes_its_input_and_then_fails_leaves_nothing_changed_either(project, untidy):
    assert "no result: bad: and now it is too late" in untidy("write_into_its_input_and_fail").stdout

    assert untidy("touch_its_input").returncode == 0
    assert project.executed.count("Scale 2.0") == 2


def test_a_pass_that_changes_the_users_own_file_fails_by_name(project, untidy):
    done = untidy("write_into_its_input", alone=True)

    assert done.returncode == 1
    line = project.folder / "line.json"
    assert f"no result: bad: toy:Untidy has changed what it was given to read: {line}" in done.stdout


def test_a_pass_that_touches_its_input_without_changing_it_does_no_harm(untidy):
    assert untidy("touch_its_input").returncode == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("name_a_file_that_is_not_there", "toy:Untidy returned a model with a file that it did not write: "),
        ("name_a_file_elsewhere", "a model's files lie in its step's folder or among its inputs"),
        ("link_to_its_input", "line.json is a symbolic link, and must be a file of the artifact's own"),
        ("write_beside_its_folder", "a model's files lie in its step's folder or among its inputs"),
        ("return_a_string", "toy:Untidy must return a PassResult, and returned a str"),
        ("return_nothing", "toy:Untidy must return a PassResult, and returned None"),
        (
            "return_a_path_for_a_model",
            "toy:Untidy must return a PassResult with a ModelHandle, and its model is a P",
        ),
        ("make_another_type", "toy:Untidy must make a model of type Line, and made one of type Curve"),
    ],
)
def test_what_a_pass_returns_is_checked_before_it_is_kept(project, untidy, how, reason):
    done = untidy(how)

    assert done.returncode == 1
    assert reason in done.stdout
    assert "looks like a bug" not in done.stdout
    assert project.record["results"][0]["best"] is None


def test_the_files_of_an_artifact_are_read_only(project):
    assert project.run().returncode == 0

    files = [path for path in (project.folder / ".hfopt-cache" / "artifacts").rglob("*") if path.is_file()]
    written = [path for path in files if path.name not in ("manifest.json",)]
    assert written
    assert all(path.stat().st_mode & 0o222 == 0 for path in written)


def test_a_link_to_the_users_own_file_leaves_that_file_as_it_was(project, untidy):
    before = (project.folder / "line.json").stat().st_mode

    untidy("link_to_its_input", alone=True)

    assert (project.folder / "line.json").stat().st_mode == before


@pytest.mark.parametrize("where", [(), ("--in-process",)])
def test_a_pass_that_quits_fails_and_the_run_is_recorded(project, where):
    project.config["passes"] = {"bad": {"type": "Untidy", "config": {"how": "quit"}}}

    assert project.run(*where).returncode == 1
    assert project.candidate["error"]["message"] == "SystemExit: 0"


def test_what_a_pass_has_changed_before_its_worker_died_is_not_reused(project, untidy):
    assert untidy("change_its_input_and_die").returncode == 1

    project.config["passes"] = {"first": project.config["passes"]["first"]}
    assert project.run().returncode == 0
    assert json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text()) == {"slope": 1.0}


def test_attributes_that_look_like_places_stay_what_they_are(project, untidy):
    assert untidy("name_labels_like_places").returncode == 0

    (key,) = [step["key"] for step in project.candidate["steps"] if step["name"] == "bad"]
    store = ArtifactStore(project.folder / ".hfopt-cache")
    assert store.read_model(key).attributes["labels"] == ["here: a", "input: b", "artifact: c", "text: d"]

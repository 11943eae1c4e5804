"""What lies elsewhere is resolved once a run, fetched once a version, and seen by components as a folder."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def far(project):
    """A project whose model lies in a place called `far`."""
    place = project.folder / "far"
    place.mkdir()
    (place / "version").write_text("1")
    for version, slope in (("1", 0.5), ("2", 0.25)):
        (place / f"{version}.json").write_text(json.dumps({"slope": slope}))
    project.config["input_model"]["config"] = {"place": "far"}
    return project


def asked(project):
    return [line for line in project.executed if not line.startswith(("Scale", "Retune"))]


def slope(project):
    return json.loads((project.folder / "hfopt-output" / "best" / "line.json").read_text())["slope"]


def test_a_resource_is_resolved_each_run_and_fetched_once(far):
    first, second = far.run(), far.run()

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert asked(far) == ["resolve", "fetch 1", "resolve"]
    assert "note: far: version 1" in first.stderr
    assert all(far.cached().values())
    assert slope(far) == 0.75


def test_another_version_runs_what_depends_on_it_again(far):
    assert far.run().returncode == 0
    (far.folder / "far" / "version").write_text("2")

    assert far.run().returncode == 0

    assert slope(far) == 0.375
    assert far.cached()["data points"] is True
    assert far.cached()["first"] is False


def test_a_reference_that_does_not_resolve_is_a_failed_step_and_the_record_says_why(far):
    far.config["input_model"]["config"] = {"place": "nowhere"}

    done = far.run()

    assert done.returncode == 1
    assert "no result: fetch nowhere: there is no nowhere" in done.stdout
    assert "hint: go somewhere else" in done.stderr
    assert far.record["status"] == "failed"
    assert far.candidate["error"]["step"] == "fetch nowhere"


def test_offline_is_said_to_resources(far):
    assert far.run("--offline").returncode == 0

    assert asked(far)[0] == "resolve offline"


def test_a_fetched_folder_may_hold_a_file_of_the_manifests_name(far):
    assert far.run().returncode == 0

    keys = {step["name"]: step["key"] for step in far.candidate["steps"]}
    artifact = far.folder / ".hfopt-cache" / "artifacts" / keys["fetch far"][:2] / keys["fetch far"]
    assert json.loads((artifact / "manifest.json").read_text())["kind"] == "fetch"
    assert (artifact / "files" / "manifest.json").read_text() == "not the artifact's own"


def test_in_process_resources_work_too(far):
    assert far.run("--in-process").returncode == 0

    assert slope(far) == 0.75


def test_an_accelerator_that_is_not_there_is_skipped_with_its_reason(project):
    providers = ["CPUExecutionProvider", "FarExecutionProvider"]
    accelerators = [{"device": "cpu", "execution_providers": providers}]
    project.config["systems"] = {"here": {"type": "LocalSystem", "config": {"accelerators": accelerators}}}
    project.config["engine"]["target"] = "here"

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert "note: cpu, FarExecutionProvider: skipped: lines do not reach that far" in done.stderr
    assert project.record["skipped_accelerators"] == [
        {"device": "cpu", "execution_provider": "FarExecutionProvider", "reason": "lines do not reach that far"}
    ]
    assert len(project.record["results"]) == 1

    accelerators[0]["execution_providers"] = ["FarExecutionProvider"]
    alone = project.run()

    assert alone.returncode == 3
    assert "no accelerator of the target is available" in alone.stderr


def test_each_accelerator_has_a_result_of_its_own(project):
    accelerators = [{"device": "cpu", "execution_providers": ["CPUExecutionProvider", "NearExecutionProvider"]}]
    project.config["systems"] = {"here": {"type": "LocalSystem", "config": {"accelerators": accelerators}}}
    project.config["engine"]["target"] = "here"

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert [result["accelerator"]["execution_provider"] for result in project.record["results"]] == [
        "CPUExecutionProvider",
        "NearExecutionProvider",
    ]
    output = project.folder / "hfopt-output"
    assert (output / "best" / "line.json").exists()
    assert (output / "best-cpu-near" / "line.json").exists()
    assert "model: hfopt-output/best, hfopt-output/best-cpu-near" in done.stdout

"""`hfopt runs` and `hfopt cache`: what ran, why it ran again, whether it is sound, and making room."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hfopt.commands.cache import parse_size


@pytest.fixture
def hfopt(project):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "hfopt", *arguments], cwd=project.folder, capture_output=True, text=True
        )

    return run


@pytest.fixture
def two_runs(project):
    """The same config twice, an option of the second pass changed in between."""
    assert project.run().returncode == 0
    project.config["passes"]["second"]["config"]["factor"] = 0.5
    assert project.run().returncode == 0
    return project


def artifacts(project):
    return sorted((project.folder / ".hfopt-cache" / "artifacts").glob("*/*"))


def test_runs_are_listed_latest_first_with_what_they_made(two_runs, hfopt):
    first, second = reversed(json.loads(hfopt("runs", "--json").stdout))

    assert (first["status"], first["made"], first["cached"]) == ("succeeded", 7, 0)
    assert (second["status"], second["made"], second["cached"]) == ("succeeded", 3, 4)
    assert second["config"] == str(two_runs.folder / "config.json")
    assert len(hfopt("runs", "--limit", "1").stdout.splitlines()) == 2


def test_a_failed_run_is_noted_with_its_failed_steps(project, misbehave, hfopt):
    misbehave("refuse")

    (run,) = json.loads(hfopt("runs", "--json").stdout)

    assert (run["status"], run["failed"]) == ("failed", 2)


def test_artifacts_are_listed_with_when_they_were_last_used(two_runs, hfopt):
    listed = json.loads(hfopt("cache", "ls", "--json").stdout)

    assert len(listed) == len(artifacts(two_runs)) == 10
    assert listed[0]["used"] >= listed[-1]["used"]
    assert hfopt("cache", "ls").stdout.splitlines()[-1].startswith("10 artifacts, ")


def test_why_a_step_ran_again_is_explained_by_the_nearest_other(two_runs, hfopt):
    key = next(step["key"] for step in two_runs.candidate["steps"] if step["name"] == "second")

    shown = hfopt("cache", "explain", key[:10]).stdout

    assert shown.splitlines()[0] == key
    assert shown.splitlines()[-1] == "  config.factor: 0.5 here, 0.75 there"


def test_a_key_that_fits_no_artifact_is_a_usage_error(two_runs, hfopt):
    done = hfopt("cache", "explain", "zz")

    assert done.returncode == 2
    assert "no artifact in .hfopt-cache with a key that begins with 'zz'" in done.stderr


def test_changed_bytes_are_found_and_removed_on_request_and_made_anew(two_runs, hfopt):
    assert hfopt("cache", "verify").stdout == "every artifact is as it was written\n"
    line = next((two_runs.folder / ".hfopt-cache" / "artifacts").glob("*/*/line.json"))
    line.write_text(line.read_text().replace("s", "z"))

    found = hfopt("cache", "verify")

    assert (found.returncode, found.stdout) == (1, f"{line.parent.name[:12]}: line.json has changed\n1 damaged\n")
    assert hfopt("cache", "verify", "--remove").returncode == 0
    assert hfopt("cache", "verify").stdout == "every artifact is as it was written\n"
    assert two_runs.run().returncode == 0


def test_pruning_keeps_what_was_used_last(two_runs, hfopt):
    sizes = {each["key"]: each["size"] for each in json.loads(hfopt("cache", "ls", "--json").stdout)}
    latest = {step["key"] for step in two_runs.candidate["steps"]}
    room = sum(size for key, size in sizes.items() if key in latest)

    done = hfopt("cache", "prune", "--max-size", str(room))

    assert done.stdout.startswith("removed 3 artifacts, ")
    assert {folder.name for folder in artifacts(two_runs)} == latest


def test_pruning_waits_for_no_run_but_refuses_beside_one(project, hfopt):
    for name in ("first", "second"):
        project.config["passes"][name]["config"]["seconds"] = 1.0
    running = project.start()
    while not project.executed:
        pass

    done = hfopt("cache", "prune", "--max-size", "0")

    running.communicate()
    assert (done.returncode, done.stderr) == (1, "hfopt: a run is using .hfopt-cache\n  hint: wait for it to end\n")
    assert hfopt("cache", "prune", "--max-size", "0").returncode == 0
    assert artifacts(project) == []


def test_a_lost_journal_costs_history_and_no_work(two_runs, hfopt):
    for file in (two_runs.folder / ".hfopt-cache").glob("journal.sqlite*"):
        file.unlink()

    assert json.loads(hfopt("runs", "--json").stdout) == []
    assert len(json.loads(hfopt("cache", "ls", "--json").stdout)) == 10
    assert two_runs.run().returncode == 0
    assert all(two_runs.cached().values())


def test_a_folder_that_is_no_cache_is_a_usage_error(project, hfopt):
    done = hfopt("cache", "ls", "--cache-dir", "elsewhere")

    assert done.returncode == 2
    assert (
        done.stderr == "hfopt: elsewhere: no cache here\n  hint: name the folder of engine.cache_dir with --cache-dir\n"
    )


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("500M", 500_000_000), ("1.5 gb", 1_500_000_000), ("2k", 2_000)])
def test_sizes_are_written_as_people_write_them(text, size):
    assert parse_size(text) == size


def test_a_size_that_is_none_is_refused(two_runs, hfopt):
    done = hfopt("cache", "prune", "--max-size", "lots")

    assert done.returncode == 2
    assert "'lots' is not a size such as 500M or 20G" in done.stderr

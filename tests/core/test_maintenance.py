"""`hfopt runs` and `hfopt cache`: what ran, why it ran again, whether it is sound, and making room."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt.cache.journal import Use
from hfopt.cache.maintenance import Entry, keep
from hfopt.cache.manifest import ArtifactFile, Manifest, Uses
from hfopt.cli.commands.cache import parse_size
from hfopt.cli.commands.common import print_table


@pytest.fixture
def hfopt(project):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "hfopt", *arguments], cwd=project.folder, capture_output=True, text=True
        )

    return run


@pytest.fixture(scope="module")
def finished(make_project):
    """The same config twice, an option of the second pass changed in between."""
    project = make_project()
    assert project.run().returncode == 0
    project.config["passes"]["second"]["config"]["factor"] = 0.5
    assert project.run().returncode == 0
    return project


@pytest.fixture
def two_runs(finished, project):
    """A copy of that, to spoil."""
    shutil.copytree(finished.folder, project.folder, dirs_exist_ok=True)
    project.config = copy.deepcopy(finished.config)
    return project


def artifacts(project):
    return sorted((project.folder / ".hfopt-cache" / "artifacts").glob("*/*"))


def test_runs_are_listed_latest_first_with_what_they_made(two_runs, hfopt):
    first, second = reversed(json.loads(hfopt("runs", "--json").stdout))

    assert (first["status"], first["made"], first["cached"]) == ("succeeded", 9, 0)
    assert (second["status"], second["made"], second["cached"]) == ("succeeded", 4, 5)
    assert second["config"].endswith("/config.json")
    headings, latest = hfopt("runs", "--limit", "1").stdout.splitlines()
    assert headings.split() == ["run", "started", "status", "took", "made", "cached", "failed", "config", "output"]
    assert re.fullmatch(r"  2  \d+ s ago +succeeded +\d+\.\d s +4 +5 +0  \S+/config\.json  \S+/hfopt-output", latest)


def test_a_failed_run_is_noted_with_the_step_that_failed_and_not_those_that_never_ran(project, misbehave, hfopt):
    misbehave("refuse")

    (run,) = json.loads(hfopt("runs", "--json").stdout)

    assert (run["status"], run["failed"]) == ("failed", 1)


def test_artifacts_are_listed_with_when_and_by_which_run_they_were_last_used(two_runs, hfopt):
    listed = json.loads(hfopt("cache", "ls", "--json").stdout)

    assert len(listed) == len(artifacts(two_runs)) == 13
    assert listed[0]["used"] >= listed[-1]["used"]
    assert {(each["step"], each["run"]) for each in listed if each["step"] in ("first", "second")} == {
        ("first", 2), ("second", 1), ("second", 2),
    }  # fmt: skip
    shown = hfopt("cache", "ls").stdout.splitlines()
    assert shown[0].split() == ["key", "size", "made", "in", "used", "by", "run", "step", "component"]
    assert shown[-1].startswith("13 artifacts, ")
    assert any(re.fullmatch(r"\w{12} +\d+ bytes +\d\.\d s +\d+ s ago +2  first +toy:Scale", line) for line in shown)


def key_of(project, name):
    return next(step["key"] for step in project.candidate["steps"] if step["name"] == name)


def test_why_a_step_ran_again_is_said_in_plain_words(two_runs, hfopt):
    key = key_of(two_runs, "second")

    shown = hfopt("cache", "explain", key[:10]).stdout.splitlines()

    assert shown[0].startswith("second: toy:Scale, ")
    assert shown[1] == f"  key      {key}"
    assert re.fullmatch(r"it was made again because of what changed since run 1 \(\w{12}\):", shown[-2])
    assert shown[-1] == "  passes.second: factor was 0.75 and is now 0.5"


def test_a_step_that_ran_again_because_of_an_earlier_one_is_explained_by_that(two_runs, hfopt):
    explained = json.loads(hfopt("cache", "explain", "score third", "--json").stdout)

    assert explained["compared"]["run"] == 1
    assert explained["compared"]["reasons"] == ["passes.second: factor was 0.75 and is now 0.5"]
    for name in ("first", "score input_model"):
        assert hfopt("cache", "explain", name).stdout.splitlines()[-1] == "there is no earlier one in this cache"


def test_a_changed_plugin_or_input_file_is_named(project, hfopt, tmp_path):
    project.plugin = tmp_path / "own.py"
    project.plugin.write_text(Path(__file__).with_name("toy.py").read_text())
    assert project.run().returncode == 0
    project.plugin.write_text(project.plugin.read_text() + "\n# edited\n")
    (project.folder / "points.json").write_text("[[1.0, 1], [3.0, 1]]")
    assert project.run().returncode == 0

    explained = json.loads(hfopt("cache", "explain", "score third", "--json").stdout)

    assert explained["compared"]["reasons"] == [
        "data_configs.points: the content of data_file has changed",
        "the plugin file own.py has changed",
    ]


def test_a_changed_module_that_a_plugin_file_imports_is_named(project, hfopt, tmp_path):
    project.plugin = tmp_path / "own.py"
    project.plugin.write_text(
        Path(__file__).with_name("toy.py").read_text()
        + "\nimport contextlib\nwith contextlib.suppress(ImportError):\n    import helper\n"
    )
    (project.folder / "helper.py").write_text("FACTOR = 1")
    assert project.run().returncode == 0
    (project.folder / "helper.py").write_text("FACTOR = 2")
    assert project.run().returncode == 0

    assert hfopt("cache", "explain", "first").stdout.splitlines()[-1] == "  module helper has changed"


BESIDE = """
from pydantic import model_validator


class WithWeights(LineConfig):
    @model_validator(mode="after")
    def _weights_count(self, info):
        if isinstance(info.context, ConfigContext):
            info.context.used_paths.append(Path(self.model_path).with_name("weights"))
        return self


LineLoader.Config = WithWeights
"""


def test_a_changed_file_that_no_option_names_is_a_reason_too(project, hfopt, tmp_path):
    project.plugin = tmp_path / "own.py"
    project.plugin.write_text(Path(__file__).with_name("toy.py").read_text() + BESIDE)
    for weights in ("1", "2"):
        (project.folder / "weights").write_text(weights)
        assert project.run().returncode == 0

    reason = "  input_model: the content of a file that belongs to its inputs has changed"
    assert hfopt("cache", "explain", "first").stdout.splitlines()[-1] == reason


def test_another_kind_of_pass_in_the_same_place_is_the_whole_reason(project, hfopt):
    assert project.run().returncode == 0
    project.config["passes"]["second"] = {"type": "Tune", "config": {"seconds": 0.0}}
    assert project.run().returncode == 0

    explained = json.loads(hfopt("cache", "explain", "third", "--json").stdout)

    assert explained["compared"]["reasons"] == ["passes.second: was toy:Scale and is now toy:Tune"]


def test_a_step_whose_artifact_is_removed_runs_again(two_runs, hfopt):
    key = key_of(two_runs, "first")

    removed = hfopt("cache", "rm", "first")

    assert removed.stdout.startswith(f"removed first ({key[:12]}), ")
    two_runs.run()
    assert [name for name, cached in two_runs.cached().items() if not cached] == ["first"]


def test_a_key_that_fits_no_artifact_is_a_usage_error(two_runs, hfopt):
    done = hfopt("cache", "explain", "zz")

    assert done.returncode == 2
    assert "no artifact with a key that begins with 'zz', and no step of that name" in done.stderr


def test_changed_bytes_are_found_and_removed_on_request_and_made_anew(two_runs, hfopt):
    assert hfopt("cache", "verify").stdout == "13 artifacts: all intact\n"
    line = next((two_runs.folder / ".hfopt-cache" / "artifacts").glob("*/*/line.json"))
    line.write_text(line.read_text().replace("s", "z"))

    found = hfopt("cache", "verify")

    name = line.parent.name[:12]
    assert (found.returncode, found.stdout) == (1, f"{name}: line.json has changed\n13 artifacts: 1 damaged\n")
    assert hfopt("cache", "verify", "--remove").returncode == 0
    assert hfopt("cache", "verify").stdout == "12 artifacts: all intact\n"
    assert two_runs.run().returncode == 0


def test_pruning_keeps_what_was_used_last(two_runs, hfopt):
    sizes = {each["key"]: each["size"] for each in json.loads(hfopt("cache", "ls", "--json").stdout)}
    latest = {step["key"] for step in two_runs.candidate["steps"]}
    room = sum(size for key, size in sizes.items() if key in latest)

    done = hfopt("cache", "prune", "--max-size", str(room))

    assert re.fullmatch(r"removed 3 artifacts, \S+ (kB|bytes); kept 10 artifacts, \S+ (kB|bytes)\n", done.stdout)
    assert latest < {folder.name for folder in artifacts(two_runs)}  # and one without files, which takes no room
    assert two_runs.run().returncode == 0
    assert all(two_runs.cached().values())


def entry(key, size, uses=(), used="2026-01-01"):
    manifest = Manifest(
        key=key, kind="pass", component="x:Y", config={}, inputs={}, digest="", created=used, seconds=0,
        files=(ArtifactFile(path="f", size=size, sha256=""),), peak_rss_bytes=None, uses=Uses(artifacts=tuple(uses)),
    )  # fmt: skip
    return Entry(manifest, Path(key), Use(used, None, key))


@given(st.data())
def test_what_is_kept_fits_is_whole_and_is_the_most_recently_used(data):
    keys = [f"k{number}" for number in range(data.draw(st.integers(0, 8)))]
    there = {}
    for position, key in enumerate(keys):
        parts = data.draw(st.lists(st.sampled_from([*keys[position + 1 :], "gone"]), max_size=2))
        there[key] = entry(key, data.draw(st.integers(0, 10)), parts)
    room = data.draw(st.integers(0, 40))

    kept = keep(there, room)

    assert sum(each.size for each in kept.values()) <= room
    assert all(part in kept for each in kept.values() for part in each.manifest.uses.artifacts)
    whole = keep(there, 10**9)
    assert list(kept) == list(whole)[: len(kept)]
    assert kept == whole or room < sum(each.size for each in whole.values())


def test_an_artifact_that_only_changes_settings_goes_with_the_files_that_it_refers_to():
    there = {"settings": entry("settings", 1, ["files"]), "other": entry("other", 5), "files": entry("files", 10)}

    assert list(keep(there, 16)) == ["settings", "files", "other"]
    assert list(keep(there, 11)) == ["settings", "files"]
    assert list(keep(there, 10)) == []


def test_pruning_takes_leftovers_along(two_runs, hfopt):
    cache = two_runs.folder / ".hfopt-cache"
    (cache / "making" / "abc-x").mkdir()
    broken = next(cache.glob("artifacts/*/*/manifest.json"))
    broken.write_text("{")

    assert hfopt("cache", "prune", "--max-size", "1G").returncode == 0

    assert list((cache / "making").iterdir()) == []
    assert [lock.name for lock in (cache / "locks").iterdir()] == ["in-use"]
    assert not broken.parent.exists()


def test_pruning_waits_for_no_run_but_refuses_beside_one(project, hfopt):
    project.config["passes"]["second"] = {"type": "Misbehave", "config": {"how": "hang_until_told"}}
    (project.folder / "toy.log.hold").touch()
    running = project.start()
    while "waits" not in project.executed:
        time.sleep(0.02)

    done = hfopt("cache", "prune", "--max-size", "0")

    (project.folder / "toy.log.hold").unlink()
    running.communicate()
    refused = "hfopt: .hfopt-cache: a run is using it\n  hint: hfopt runs shows what is running\n"
    assert (done.returncode, done.stderr) == (1, refused)
    assert hfopt("cache", "prune", "--max-size", "0").returncode == 0
    assert artifacts(project) == []


def test_a_cache_is_found_by_its_config(project, hfopt):
    project.config["engine"]["cache_dir"] = "elsewhere"
    assert project.run().returncode == 0

    assert hfopt("cache", "verify", "config.json").stdout == "9 artifacts: all intact\n"
    assert hfopt("cache", "verify", "--cache-dir", "elsewhere").returncode == 0
    assert len(json.loads(hfopt("runs", "config.json", "--json").stdout)) == 1


def test_a_folder_that_is_no_cache_is_a_usage_error(project, hfopt):
    done = hfopt("cache", "ls")

    assert done.returncode == 2
    assert done.stderr == (
        "hfopt: .hfopt-cache: no cache here\n  hint: name a config, or the folder itself with --cache-dir\n"
    )


def test_a_table_is_as_wide_as_its_cells_and_ends_its_lines_without_blanks(capsys):
    print_table(("step", ">size", "folder"), [("a", "1 kB", "/x"), ("longer", "512 bytes", "/" + "y" * 100)])

    assert capsys.readouterr().out.splitlines() == [
        "step         size  folder",
        "a            1 kB  /x",
        f"longer  512 bytes  /{'y' * 100}",
    ]


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500M", 500_000_000), ("1.5 gb", 1_500_000_000), ("2k", 2_000), ("1 KiB", 1_024)]
)
def test_sizes_are_written_as_people_write_them(text, size):
    assert parse_size(text) == size


def test_a_size_that_is_none_is_refused(two_runs, hfopt):
    done = hfopt("cache", "prune", "--max-size", "lots")

    assert done.returncode == 2
    assert "'lots' is not a size such as 500M or 20G" in done.stderr

"""Artifacts mean the same on every machine: they can be exported, and adopted under another path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from hfopt.base.errors import HfoptError
from hfopt.cache.manifest import MANIFEST
from hfopt.cache.store import ArtifactStore


def hfopt(project, *arguments):
    command = [sys.executable, "-m", "hfopt", *map(str, arguments)]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True)


def digests(project):
    """The content digest of each of a run's artifacts, by the name of its step."""
    folder = project.folder / ".hfopt-cache" / "artifacts"
    found = {}
    for step in project.candidate["steps"]:
        manifest = json.loads((folder / step["key"][:2] / step["key"] / MANIFEST).read_text())
        found[step["name"]] = manifest["digest"]
    return found


def test_a_run_goes_on_elsewhere_from_exported_artifacts_and_comes_to_the_same(project, make_project, tmp_path):
    assert project.run().returncode == 0
    keys = {step["name"]: step["key"] for step in project.candidate["steps"]}
    other = make_project()
    parcel = tmp_path / "parcel"

    exported = hfopt(project, "cache", "export", "second", keys["data points"][:10], "--to", parcel)
    adopted = hfopt(other, "cache", "adopt", parcel)

    assert re.fullmatch(r"exported 2 artifacts, \d\.\d kB\n", exported.stdout), exported
    assert adopted.stdout == "adopted 2 artifacts\n", adopted
    assert other.run().returncode == 0

    assert [name for name, cached in other.cached().items() if cached] == ["second", "data points"]
    assert digests(other) == digests(project)
    metrics = other.candidate["metrics"], project.candidate["metrics"]
    assert metrics[0] == metrics[1]


def test_an_artifact_is_exported_with_all_that_it_uses(project, tmp_path):
    assert project.run().returncode == 0
    keys = {step["name"]: step["key"] for step in project.candidate["steps"]}

    exported = ArtifactStore(project.folder / ".hfopt-cache").export([keys["third"]], tmp_path / "parcel")

    assert set(exported) == {keys["second"], keys["third"]}


def test_a_whole_run_is_adopted_into_a_new_cache_and_nothing_runs_again(project, make_project, tmp_path):
    assert project.run().returncode == 0
    names = [step["key"] for step in project.candidate["steps"]]
    for part in (names[:3], names):  # the second time, some are there already
        assert hfopt(project, "cache", "export", *part, "--to", tmp_path / "parcel").returncode == 0
    other = make_project()
    for _ in range(2):
        adopted = hfopt(other, "cache", "adopt", tmp_path / "parcel", "--cache-dir", ".hfopt-cache")
        assert adopted.stdout == f"adopted {len(names)} artifacts\n", adopted

    assert other.run().returncode == 0

    assert all(other.cached().values())
    assert hfopt(other, "cache", "verify").returncode == 0


def test_what_can_not_be_exported_or_adopted_is_a_sentence(project, tmp_path):
    assert project.run().returncode == 0
    (tmp_path / "file").touch()
    lost = project.folder / ".hfopt-cache" / "artifacts"
    next(lost.glob("*/*/line.json")).unlink()

    into_a_file = hfopt(project, "cache", "export", "data points", "--to", tmp_path / "file")
    from_nowhere = hfopt(project, "cache", "adopt", "nowhere")
    damaged = hfopt(project, "cache", "export", "first", "second", "--config", "config.json", "--to", "parcel")

    assert (into_a_file.returncode, into_a_file.stderr) == (1, f"hfopt: {tmp_path}/file: Not a directory\n")
    assert (from_nowhere.returncode, from_nowhere.stderr) == (1, "hfopt: nowhere: No such file or directory\n")
    assert re.fullmatch(r"hfopt: artifact \w{12} is missing or damaged\n  hint: .*\n", damaged.stderr)


def test_no_artifact_holds_a_path_of_its_machine(project):
    assert project.run().returncode == 0

    for file in (project.folder / ".hfopt-cache" / "artifacts").rglob("*.json"):
        assert str(project.folder) not in file.read_text(), file


def test_what_is_adopted_must_be_what_its_manifest_says(project, tmp_path):
    assert project.run().returncode == 0
    key = project.candidate["steps"][1]["key"]
    parcel = tmp_path / "parcel"
    ArtifactStore(project.folder / ".hfopt-cache").export([key], parcel)
    line = parcel / key / "line.json"
    line.chmod(0o644)
    line.write_text(line.read_text().replace("1", "2"))

    with pytest.raises(HfoptError, match=r": line\.json has changed"):
        ArtifactStore(tmp_path / "cache").adopt(parcel)

    shutil.rmtree(parcel / key)
    (parcel / "stray").mkdir()
    with pytest.raises(HfoptError, match=r"stray: its manifest is missing"):
        ArtifactStore(tmp_path / "cache").adopt(parcel)


def test_a_cache_of_another_format_is_set_aside_with_a_notice(project):
    old = project.folder / ".hfopt-cache" / "artifacts" / "ab" / "abc"
    old.mkdir(parents=True)
    (old / MANIFEST).write_text('{"schema_version": 1}')

    done = project.run()

    aside = ".hfopt-cache/artifacts-of-another-format"
    assert f"note: the cache was of another release of hfopt: it is set aside in {aside}" in done.stderr
    assert (project.folder / aside / "ab" / "abc" / MANIFEST).is_file()
    assert "set aside" not in project.run().stderr
    assert all(project.cached().values())

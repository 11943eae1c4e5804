"""Artifacts mean the same on every machine: they can be exported, and adopted under another path."""

from __future__ import annotations

import json
import shutil

import pytest

from hfopt.base.errors import HfoptError
from hfopt.cache.store import MANIFEST, ArtifactStore


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
    store = ArtifactStore(other.folder / ".hfopt-cache")
    here = ArtifactStore(project.folder / ".hfopt-cache", inputs_of(project))
    here.export([keys["second"], keys["data points"]], tmp_path / "parcel")

    store.adopt(tmp_path / "parcel")
    assert other.run().returncode == 0

    assert [name for name, cached in other.cached().items() if cached] == ["second", "data points"]
    assert digests(other) == digests(project)
    metrics = other.candidate["metrics"], project.candidate["metrics"]
    assert metrics[0] == metrics[1]


def inputs_of(project):
    """Where a project's inputs lie, by token: any token will do for a look at artifacts."""

    class Anywhere(dict):
        def __contains__(self, token):
            return True

        def __missing__(self, token):
            return str(project.folder / "line.json")

    return Anywhere()


def test_an_artifact_is_exported_with_all_that_it_uses(project, tmp_path):
    assert project.run().returncode == 0
    keys = {step["name"]: step["key"] for step in project.candidate["steps"]}

    exported = ArtifactStore(project.folder / ".hfopt-cache").export([keys["third"]], tmp_path / "parcel")

    assert set(exported) == {keys["second"], keys["third"]}


def test_no_artifact_holds_a_path_of_its_machine(project):
    assert project.run().returncode == 0

    for file in (project.folder / ".hfopt-cache" / "artifacts").rglob("*.json"):
        assert str(project.folder) not in file.read_text(), file


def test_what_is_adopted_must_be_what_its_manifest_says(project, tmp_path):
    assert project.run().returncode == 0
    key = project.candidate["steps"][1]["key"]
    parcel = tmp_path / "parcel"
    ArtifactStore(project.folder / ".hfopt-cache", inputs_of(project)).export([key], parcel)
    line = parcel / key / "line.json"
    line.chmod(0o644)
    line.write_text(line.read_text().replace("1", "2"))

    with pytest.raises(HfoptError, match=r": line\.json has changed"):
        ArtifactStore(tmp_path / "cache").adopt(parcel)

    shutil.rmtree(parcel / key)
    (parcel / "stray").mkdir()
    with pytest.raises(HfoptError, match=r"stray: not an artifact"):
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

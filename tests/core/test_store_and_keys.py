"""Artifacts, keys, digests and versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt.api.model import ModelHandle, TensorSpec
from hfopt.base.errors import HfoptError
from hfopt.base.values import replace_strings
from hfopt.cache.digests import Digests
from hfopt.cache.keys import key_of
from hfopt.cache.locks import exclusive
from hfopt.cache.manifest import MANIFEST, Manifest, Uses, digest_of, list_files
from hfopt.cache.store import ArtifactMissing, ArtifactStore

KEY, OTHER = "a" * 64, "b" * 64


def commit(store: ArtifactStore, key: str, text: str = "weights", uses: Uses | None = None) -> Manifest:
    with store.making(key) as folder:
        (folder / "model.bin").write_text(text)
        return publish(store, key, folder, uses or Uses())


def publish(store: ArtifactStore, key: str, folder: Path, uses: Uses) -> Manifest:
    files = list_files(folder)
    manifest = Manifest(
        key=key, kind="pass", component="x:Y", config={}, inputs={}, files=files, digest=digest_of(files),
        uses=uses, created="now", seconds=0, peak_rss_bytes=None,
    )  # fmt: skip
    return store.commit(folder, manifest)


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


def test_what_is_committed_is_found_and_nothing_half_made_is_left(store):
    manifest = commit(store, KEY)

    assert store.find(KEY) == manifest
    assert store.find(OTHER) is None
    assert list((store.root / "making").iterdir()) == []


@pytest.mark.parametrize("damage", [lambda file: file.chmod(0o644) or file.write_text("short"), Path.unlink])
def test_a_truncated_or_missing_file_is_noticed_and_the_artifact_can_be_made_again(store, damage):
    commit(store, KEY)
    damage(store.folder(KEY) / "model.bin")

    assert store.find(KEY) is None
    with pytest.raises(ArtifactMissing, match=f"artifact {KEY[:12]} is missing or damaged"):
        store.need(KEY)
    commit(store, KEY)
    assert store.find(KEY) is not None


def flip_a_byte(folder: Path) -> None:
    """As a disk would: size and time of change stay."""
    file = folder / "model.bin"
    state = file.stat()
    file.chmod(0o644)
    file.write_text("Weights")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def edit(change):
    def edit_manifest(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return edit_manifest


DAMAGES = {
    "model.bin has changed": flip_a_byte,
    "model.bin is missing": lambda folder: (folder / "model.bin").unlink(),
    "vocab.txt does not belong to it": lambda folder: (folder / "vocab.txt").write_text(""),
    "its manifest is missing": lambda folder: (folder / MANIFEST).unlink(),
    "its manifest is damaged": edit(lambda manifest: manifest.update(files=None)),
    "its manifest has been edited": edit(lambda manifest: manifest.update(seconds=1.5)),
    "its manifest is of another release of hfopt": edit(lambda manifest: manifest.update(schema_version=99)),
    "it is another artifact, bbbbbbbbbbbb": edit(lambda manifest: manifest.update(key=OTHER)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_artifact_is_what_its_manifest_says_or_it_is_none(tmp_path, damage):
    store = ArtifactStore(tmp_path / "cache", digests=Digests(tmp_path))
    commit(store, KEY)
    assert store.damage(KEY) == ""
    DAMAGES[damage](store.folder(KEY))

    assert store.find(KEY) is None
    assert store.damage(KEY) == damage
    commit(store, KEY)
    assert store.find(KEY) is not None


def test_bytes_that_were_read_once_are_not_read_again_until_the_file_changes(tmp_path):
    digests = Digests(tmp_path)
    store = ArtifactStore(tmp_path / "cache", digests=digests)
    manifest = commit(store, KEY)
    file = store.folder(KEY) / "model.bin"
    digests.trust(file, "as it was written", before=file)
    assert "as it was written" not in digests.used.values()  # it may have changed in the same tick
    time.sleep(0.02)
    (tmp_path / "later").touch()
    digests.trust(file, "as it was written", before=tmp_path / "later")
    digests.save()
    later = ArtifactStore(tmp_path / "cache", digests=Digests(tmp_path))

    assert later.damage(KEY) == "model.bin has changed"  # as remembered: it was not read
    file.chmod(0o400)
    assert later.find(KEY) == manifest


def test_artifacts_that_refer_to_each_other_end(store):
    manifest = commit(store, KEY)
    commit(store, OTHER, uses=Uses(artifacts=(KEY,)))
    circular = manifest.model_copy(update={"uses": Uses(artifacts=(OTHER,))})
    sealed = circular.model_copy(update={"seal": circular.digest_of_itself()})
    (store.folder(KEY) / MANIFEST).write_text(sealed.model_dump_json())

    assert store.closure([KEY]).keys() == {KEY, OTHER}


def test_whoever_commits_first_wins(store):
    commit(store, KEY, "first")
    commit(store, KEY, "other")

    assert (store.folder(KEY) / "model.bin").read_text() == "first"


def test_what_a_worker_has_made_beside_a_store_that_it_can_only_read_is_taken_in(store, tmp_path):
    made = store.root / "making" / "own"
    made.mkdir(parents=True)
    manifest = commit(ArtifactStore(store.root, made=made), KEY)
    assert store.find(KEY) is None

    assert store.take_in(made) == [KEY]

    assert store.find(KEY) == manifest
    assert list(made.iterdir()) == []


def test_an_artifact_that_uses_another_is_whole_only_with_it(store):
    commit(store, KEY)
    commit(store, OTHER, "settings", Uses(artifacts=(KEY,)))
    assert store.find(OTHER) is not None

    (store.folder(KEY) / "model.bin").unlink()

    assert store.find(OTHER) is None


def test_a_model_is_written_without_absolute_paths_and_read_back_with_them(store, tmp_path):
    given, beside = tmp_path / "given.bin", tmp_path / "given.bin.data"
    given.write_text("x")
    beside.write_text("more")
    store.inputs["input:0123"] = str(given)
    commit(store, KEY)
    parent = store.folder(KEY) / "model.bin"
    with store.making(OTHER) as folder:
        (folder / "own.bin").write_text("own")
        handle = ModelHandle(
            type="Line", path=folder / "own.bin", files=(folder / "own.bin", parent), companions=(given, beside),
            config={"place": str(given), "cache": str(parent.parent), "other": "/as/it/is"},
            inputs=(TensorSpec(name="x", dtype="int64", axes=("batch_size", 3), high=7),),
            components={"part": ModelHandle(type="Line", path=parent, files=(parent,))},
        )  # fmt: skip
        uses = store.write_model(folder, handle)
        text = (folder / "model.json").read_text()
        read = store.unpack(json.loads(text), folder)

    assert read == handle
    assert uses.artifacts == (KEY,)
    assert uses.inputs == ("input:0123",)
    assert [file.path for file in uses.beside] == ["input:0123/../given.bin.data"]
    assert str(store.root) not in text
    assert str(tmp_path) not in text


def test_a_model_with_a_file_from_nowhere_is_refused(store, tmp_path):
    with store.making(OTHER) as folder:
        handle = ModelHandle(type="Line", path=tmp_path / "x", files=(tmp_path / "x",))
        with pytest.raises(HfoptError, match=r"/x: a model's files lie in its step's folder or among its inputs"):
            store.write_model(folder, handle)


def test_a_file_beside_an_input_counts_by_its_content(store, tmp_path):
    given, beside = tmp_path / "given.bin", tmp_path / "given.bin.data"
    given.write_text("x")
    beside.write_text("more")
    store.inputs["input:0123"] = str(given)
    handle = ModelHandle(type="Line", path=given, files=(given, beside))
    with store.making(KEY) as folder:
        uses = store.write_model(folder, handle)
        publish(store, KEY, folder, uses)
    os.utime(beside, ns=(1, 1))
    assert store.find(KEY) is not None

    beside.write_text("less")

    assert store.find(KEY) is None


def test_a_digest_depends_on_names_and_bytes_alone(store):
    first, second = commit(store, KEY), commit(store, OTHER)

    assert first.digest == second.digest
    assert commit(store, "c" * 64, "other").digest != first.digest


def test_only_what_nobody_is_making_any_more_is_swept(store):
    for key in (KEY, OTHER):
        (store.root / "making" / f"{key}-x").mkdir(parents=True)

    with exclusive(store.lock(KEY)):
        store.sweep()

    assert [path.name for path in (store.root / "making").iterdir()] == [f"{KEY}-x"]


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=5))
def test_a_key_does_not_depend_on_the_order_in_which_a_recipe_is_written(recipe):
    recipe.pop("schema", None)

    assert key_of(recipe) == key_of(dict(reversed(recipe.items())))


def test_paths_count_by_the_content_that_they_name_wherever_they_stand():
    config = {"a": "/x/y", "b": ["/x/y", {"c": "/x/y"}], "d": "/x/z", "e": 1}

    assert replace_strings(config, {"/x/y": "D"}) == {"a": "D", "b": ["D", {"c": "D"}], "d": "/x/z", "e": 1}


def test_a_folder_counts_by_the_names_and_bytes_in_it_hidden_ones_aside(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "file").write_text("x")
    (two / ".git").write_text("hidden")
    digests = Digests(tmp_path)

    assert digests.of(one) == digests.of(two)
    (two / "sub" / "file").rename(two / "sub" / "other")
    assert digests.of(one) != digests.of(two)


def test_a_digest_is_remembered_until_the_file_changes(tmp_path):
    file = tmp_path / "file"
    file.write_text("one")
    first = Digests(tmp_path)
    digest = first.of(file)
    first.save()
    identity = next(iter(json.loads((tmp_path / "digests.json").read_text())))

    second = Digests(tmp_path)
    second.known[identity] = "remembered"
    assert second.of(file) == "remembered"
    file.write_text("two!")
    assert second.of(file) not in (digest, "remembered")


FINGERPRINT = (
    "from hfopt.discovery.versions import Environment; import json; "
    "print(json.dumps(Environment().fingerprint('acme')))"
)


def install(
    folder: Path, name: str, requires: tuple[str, ...] = (), extras: tuple[str, ...] = (), version="1.0"
) -> Path:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {line}" for line in requires] + [f"Provides-Extra: {extra}" for extra in extras]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]))
    return info


def fingerprint(folder: Path) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_versions_follow_requirements_and_own_extras_and_nothing_else(tmp_path):
    install(tmp_path, "acme", ("libone", 'runtime; extra == "cpu"', 'ghost; extra == "gpu"'), ("cpu", "gpu"))
    install(tmp_path, "libone", ('libtwo; python_version > "3"', 'never; python_version < "3"', 'dev; extra == "test"'))
    for name in ("libtwo", "runtime", "never", "dev", "unrelated"):
        install(tmp_path, name)

    found = fingerprint(tmp_path)

    assert found.keys() == {"acme", "libone", "libtwo", "runtime", "python"}
    install(tmp_path, "another")
    assert fingerprint(tmp_path) == found


def test_an_editable_distribution_counts_by_its_source(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "acme.py").write_text("x = 1")
    info = install(tmp_path, "acme")
    (tmp_path / "acme.pth").write_text(f"{source}\n")
    (info / "RECORD").write_text("acme.pth,,\n")
    (info / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    before = fingerprint(tmp_path)["acme"]
    assert before.startswith("source:")

    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "acme.pyc").write_text("compiled")
    assert fingerprint(tmp_path)["acme"] == before
    (source / "acme.py").write_text("x = 2")

    assert fingerprint(tmp_path)["acme"] != before

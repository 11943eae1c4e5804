"""What lies inside of a folder, and what is removed there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hfopt.base.errors import HfoptError, PreconditionFailed
from hfopt.base.files import read_json
from hfopt.base.inside import file_inside, folders_inside, inside, regular_file, remove_inside


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("mine")
    (tmp_path / "outside" / "b").mkdir(parents=True)
    (tmp_path / "outside" / "b" / "file").write_text("yours")
    return root


def test_a_link_within_a_folder_leads_to_its_file_and_one_out_of_it_is_refused(root):
    (root / "near").symlink_to(root / "a" / "b" / "file")
    (root / "far").symlink_to(root.parent / "outside" / "b" / "file")

    assert file_inside(root / "near", root) == root / "a" / "b" / "file"
    with pytest.raises(PreconditionFailed, match=r"/far is at .*/outside/b/file, which lies outside of .*/root"):
        file_inside(root / "far", root)
    assert file_inside(root / "far", root, root.parent / "outside") == root.parent / "outside" / "b" / "file"


@pytest.mark.parametrize("path", ["a/../../outside/b/file", "../outside/b/file", "/etc/hostname"])
def test_dots_and_absolute_paths_lead_out_as_links_do(root, path):
    with pytest.raises(PreconditionFailed, match="which lies outside of"):
        inside(root / path, root)


def test_links_in_circles_and_to_nothing_are_no_files(root):
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    (root / "lost").symlink_to(root / "nowhere")

    for name in ("one", "lost", "absent"):
        with pytest.raises(PreconditionFailed, match="no such file"):
            inside(root / name, root)


def test_a_revision_in_the_hubs_cache_may_link_to_that_repositorys_files_and_no_others(tmp_path):
    repository, other = tmp_path / "models--me--mine", tmp_path / "models--you--yours"
    revision = repository / "snapshots" / "abc" / "onnx"
    revision.mkdir(parents=True)
    for each in (repository, other):
        (each / "blobs").mkdir(parents=True)
        (each / "blobs" / "0123").write_text("weights")
    (revision / "model.onnx").symlink_to(repository / "blobs" / "0123")
    (revision / "theirs").symlink_to(other / "blobs" / "0123")

    assert file_inside(revision / "model.onnx", revision) == repository / "blobs" / "0123"
    assert file_inside(revision / "model.onnx", revision.parent) == repository / "blobs" / "0123"
    with pytest.raises(PreconditionFailed, match="which lies outside of"):
        file_inside(revision / "theirs", revision)


def test_what_is_no_regular_file_is_named_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        kinds = {"pipe": "a named pipe", "socket": "a socket", "/dev/zero": "a device", "": "a folder"}
        for name, kind in kinds.items():
            with pytest.raises(PreconditionFailed, match=f" is {kind}, not a regular file"):
                regular_file(tmp_path / name)


def test_removing_follows_no_link_on_the_way_and_none_within(root):
    outside = root.parent / "outside"
    (root / "a" / "link").symlink_to(outside, target_is_directory=True)
    (root / "away").symlink_to(outside, target_is_directory=True)

    with pytest.raises(HfoptError, match=r"/away is a symbolic link: what it leads to is left alone"):
        remove_inside(root, root / "away" / "b")
    remove_inside(root, root / "away")
    remove_inside(root, root / "a")

    assert list(root.iterdir()) == []
    assert (outside / "b" / "file").read_text() == "yours"


def test_folders_are_listed_without_those_behind_links(root):
    (root / "away").symlink_to(root.parent / "outside", target_is_directory=True)
    (root / "a" / "away").symlink_to(root.parent / "outside", target_is_directory=True)
    (root / "stray").write_text("")

    assert list(folders_inside(root)) == [root / "a"]
    assert list(folders_inside(root, depth=2)) == [root / "a" / "b"]
    assert list(folders_inside(root, "away")) == []
    assert list(folders_inside(root, "absent", depth=2)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"\xff", "is not JSON: 'utf-8' codec can't decode"),
        (b"\xef\xbb\xbf{}", "is not JSON: Unexpected UTF-8 BOM"),
        (b'["\\ud800"]', "is not JSON: 'utf-8' codec can't encode"),
        (b"[NaN]", "is not JSON: NaN is not a finite number"),
        (b"[-Infinity]", "is not JSON: -Infinity is not a finite number"),
        (b"[1e999]", "is not JSON: 1e999 is not a finite number"),
        (b"9" * 5000, "is not JSON: Exceeds the limit"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b" " * 20_000_001, "has 20000001 bytes; at most 20000000 are read"),
    ],
)
def test_json_of_somebody_else_is_read_with_bounds(tmp_path, text, said):
    file = tmp_path / "config.json"
    file.write_bytes(text)

    with pytest.raises(PreconditionFailed) as failure:
        read_json(file)

    assert failure.value.message.startswith(f"{file} {said}")


def test_json_is_read_from_regular_files_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PreconditionFailed, match="pipe is a named pipe, not a regular file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(PreconditionFailed, match="none can't be read: No such file or directory"):
        read_json(tmp_path / "none")
    (tmp_path / "whole").write_text('{"a": [1, 2.5, null, "\u00e9"]}')
    assert read_json(tmp_path / "whole") == {"a": [1, 2.5, None, "é"]}

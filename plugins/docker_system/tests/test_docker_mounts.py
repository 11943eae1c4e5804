"""What a container sees of this machine. No engine is needed."""

from __future__ import annotations

from pathlib import Path

from hfopt_docker_system.mounts import mounts, places


def test_a_folder_is_seen_as_it_is_and_a_file_with_its_folder(tmp_path):
    (tmp_path / "model.onnx").touch()

    assert places([str(tmp_path)]) == {tmp_path}
    assert places([str(tmp_path / "model.onnx")]) == {tmp_path}


def test_a_file_in_a_home_is_seen_with_what_has_its_name_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("model.onnx", "model.onnx.data", ".netrc"):
        (tmp_path / name).touch()

    assert places([str(tmp_path / "model.onnx")]) == {tmp_path / "model.onnx", tmp_path / "model.onnx.data"}


def test_no_folder_hides_the_images_own():
    assert places(["/usr/local/model.onnx"]) == {Path("/usr/local/model.onnx")}
    assert places(["/model.onnx"]) == {Path("/model.onnx")}


def test_a_link_out_of_a_folder_leads_somewhere(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "0123").touch()
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    (snapshot / "config.json").touch()
    (snapshot / "again.json").symlink_to("config.json")
    (snapshot / "gone").symlink_to("nowhere")

    assert places([str(snapshot)]) == {snapshot, blobs}


def test_what_is_written_lies_over_what_is_read_and_outer_folders_come_first():
    found = mounts(map(Path, ["/p/cache", "/p", "/q/data", "/q/data"]), {Path("/p/cache/making"): Path("/p/own")})

    assert list(found.items()) == [
        (Path("/p"), (Path("/p"), False)),
        (Path("/q/data"), (Path("/q/data"), False)),
        (Path("/p/cache/making"), (Path("/p/own"), True)),
    ]

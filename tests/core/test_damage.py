"""Damaged files of hfopt's own, and what others have left in a cache: remade with a notice, or left alone."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hfopt.cli.main import main


@pytest.fixture(scope="module")
def finished(make_project):
    project = make_project()
    done = project.run("--in-process")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def cache(finished, tmp_path, monkeypatch):
    """The cache of a finished run; its project is the current folder."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    note, old = next(tmp_path.glob(".hfopt-cache/outputs/*.json")), str(finished.folder)
    note.write_text(note.read_text().replace(old, str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".hfopt-cache"


def holding(content):
    return lambda path: path.write_bytes(content)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(2**30)


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def sql(*statements):
    def execute(path):
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return execute


def replaced(make):
    def replace(path):
        for each in path.parent.glob(f"{path.name}*"):  # with what SQLite keeps beside its file
            each.unlink()
        make(path)

    return replace


FORMS = {
    "empty": holding(b""),
    "no text": holding(bytes(range(256)) * 40),
    "null": holding(b"null"),
    "a list": holding(b"[[], 1, null]"),
    "of wrong types": holding(b'{"a": 1, "schema": "x", "started": 5, "output_dir": [], "results": {}, "config": 1}'),
    "nested": holding(b"[" * 100_000),
    "huge": sparse,
    "a pipe": replaced(os.mkfifo),
    "a folder": replaced(Path.mkdir),
    "a loop": replaced(lambda path: path.symlink_to(path.name)),
    "a link to nothing": replaced(lambda path: path.symlink_to("nothing")),
    "cut off": truncated,
}
FILES = {
    "digests": "digests.json",
    "journal": "journal.sqlite",
    "format": "format",
    "note of an output": "outputs/*.json",
    "run.json": "../hfopt-output/run.json",
    "model.json of the result": "../hfopt-output/best/model.json",
    "manifest": "artifacts/*/*/manifest.json",
    "model of an artifact": "artifacts/*/*/model.json",
    "lock": "locks/in-use",
}
SAID = [("format", "a folder"), ("run.json", "a folder"), ("lock", "a loop"), ("lock", "a link to nothing")]


def runs_again(capsys, plugin):
    """Whether a run ends well, with the right result, and every other command ends without a traceback."""
    codes = [main(["cache", *each]) for each in (["ls"], ["verify"], ["verify", "--remove"])] + [main(["runs"])]
    assert {*codes} <= {0, 1, 2}
    assert main(["run", "config.json", "-p", str(plugin), "--in-process"]) == 0
    assert json.loads(Path("hfopt-output/best/line.json").read_text()) == {"slope": 0.75}
    assert json.loads(Path("hfopt-output/run.json").read_text())["status"] == "succeeded"
    assert main(["runs"]) == 0
    assert main(["cache", "prune", "--max-size", "0"]) == 0
    shown = capsys.readouterr()
    return shown.out + shown.err


def damage(cache, file, form):
    for path in cache.glob(FILES[file]):
        FORMS[form](path)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_are_made_again(cache, project, capsys, form):
    for file in FILES:
        if (file, form) not in SAID:
            damage(cache, file, form)

    runs_again(capsys, project.plugin)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_made_again(cache, project, capsys, file):
    damage(cache, file, "of wrong types")
    if file in ("note of an output", "run.json"):
        (cache / "journal.sqlite").unlink()  # which is rebuilt from them

    runs_again(capsys, project.plugin)


@pytest.mark.parametrize(("file", "form"), SAID)
def test_what_may_be_somebodys_is_not_removed_and_named(cache, project, capsys, file, form):
    damage(cache, file, form)

    assert main(["run", "config.json", "-p", str(project.plugin), "--in-process"]) == 1

    assert FILES[file].removeprefix("../") in capsys.readouterr().err


DAMAGES = {
    "no table": sql("DROP TABLE steps"),
    "no index": sql("DROP INDEX steps_by_key"),
    "wrong columns": sql("ALTER TABLE runs DROP COLUMN born"),
    "a column more": sql("ALTER TABLE runs ADD COLUMN more"),
    "another database": replaced(sql("CREATE TABLE cats (name)", "PRAGMA user_version = 2")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_journal_with_other_tables_is_set_aside_and_rebuilt(cache, capsys, damage):
    DAMAGES[damage](cache / "journal.sqlite")

    assert main(["runs"]) == 0

    shown = capsys.readouterr()
    assert "journal.sqlite was damaged (its tables are not what they were): it is rebuilt" in shown.err
    assert "succeeded" in shown.out


STRAYS = (
    "artifacts/x",
    "artifacts/ab/notakey",
    "making/file",
    "locks/x",
    "outputs/x.json",
    "x",
    "artifacts/ab/" + "0" * 64,
)


@pytest.mark.parametrize("folder", [False, True])
def test_what_others_have_left_in_a_cache_is_in_nobodys_way(cache, project, capsys, folder):
    for name in STRAYS:
        place = cache / name
        place.parent.mkdir(exist_ok=True)
        place.mkdir() if folder else place.touch()

    runs_again(capsys, project.plugin)

    assert (cache / "x").exists()


@pytest.mark.parametrize("name", ["artifacts", "making", "locks", "outputs"])
def test_a_file_in_the_place_of_a_folder_of_the_cache_is_said_or_of_no_effect(cache, project, capsys, name):
    if (cache / name).exists():
        shutil.rmtree(cache / name)
    (cache / name).touch()

    code = main(["run", "config.json", "-p", str(project.plugin), "--in-process"])

    shown = capsys.readouterr()
    assert code == 0 or f".hfopt-cache/{name}" in shown.err + shown.out
    for command in (["ls"], ["verify"], ["prune", "--max-size", "0"]):
        assert main(["cache", *command]) in (0, 1, 2)

"""The journal: kept elsewhere where it must be, made anew when it is lost, and never the reason why a run fails."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from hfopt.cache.filesystems import file_system, is_network, on_network
from hfopt.cache.journal import Journal, SettledStep

MOUNTS = {
    "/proc": ["proc"],
    "/": ["rootfs", "ext4"],
    "/home": ["nfs4"],
    "/home/me/scratch": ["xfs"],
    "/mnt/with blank": ["cifs"],
    "/data": ["autofs", "fuse.sshfs"],
}


@pytest.fixture
def mount(monkeypatch):
    """Pretend that nothing is mounted but the given: types by mount point, in the order in which they were mounted."""

    def pretend(mounts):
        listed = [
            SimpleNamespace(mountpoint=str(point), fstype=kind) for point, kinds in mounts.items() for kind in kinds
        ]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: listed)

    return pretend


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/home/me/cache", "nfs4", True),
        ("/home/me/scratch/cache", "xfs", False),
        ("/homework", "ext4", False),
        ("/mnt/with blank/cache", "cifs", True),
        ("/data/cache", "fuse.sshfs", True),
        ("/", "ext4", False),
    ],
)
def test_the_deepest_and_last_mount_above_a_path_says_what_kind_of_file_system_it_is(mount, path, kind, network):
    mount(MOUNTS)

    assert file_system(Path(path)) == kind
    assert is_network(kind) is network


def test_the_kernel_says_what_proc_is():
    assert file_system(Path("/proc/self")) == "proc"


def test_file_systems_with_other_writers_count_as_network():
    kinds = ["lustre", "9p", "smb3", "fuse.gcsfuse", "fuseblk", "overlay", "tmpfs", "nfsd"]

    assert [kind for kind in kinds if is_network(kind)] == ["lustre", "9p", "smb3", "fuse.gcsfuse"]


def test_where_the_system_names_no_mounts_a_cache_counts_as_local(mount, tmp_path):
    mount({})

    assert not on_network(tmp_path)


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def journal(tmp_path, warnings) -> Journal:
    return Journal(tmp_path, warnings.append)


STEP = SettledStep("first", "a" * 64, "toy:Scale", "made", 1.5)


def record(journal, output_dir, status="succeeded", steps=(STEP,)):
    """A run that writes a run.json."""
    with journal.run(None, output_dir) as log:
        log.note(list(steps))
        log.end(status)
    output_dir.mkdir(exist_ok=True)
    made = [
        {"name": step.name, "type": step.component, "key": step.key, "cached": step.outcome == "cached", "seconds": 1.5}
        for step in steps
    ]
    results = [{"candidates": [{"steps": made}]}]
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:05+00:00"}
    (output_dir / "run.json").write_text(json.dumps({"schema": 1, "status": status, "results": results, **times}))


def test_a_run_that_ends_by_an_exception_is_noted_as_failed_or_interrupted(journal, tmp_path):
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), journal.run(tmp_path / "c.json", tmp_path / "out"):
            raise error

    assert [run.status for run in journal.runs()] == ["interrupted", "failed"]


def test_a_lost_journal_is_made_anew_from_the_run_jsons_that_its_runs_have_left(journal, tmp_path):
    record(journal, tmp_path / "one")
    record(journal, tmp_path / "two", status="goals_not_met")
    (tmp_path / "two" / "run.json").write_text((tmp_path / "two" / "run.json").read_text().replace("01-01", "01-02"))
    for file in tmp_path.glob("journal.sqlite*"):
        file.unlink()

    later, earlier = Journal(tmp_path).runs()

    assert (earlier.status, earlier.started[:10], earlier.made) == ("succeeded", "2026-01-01", 1)
    assert (later.status, later.output_dir) == ("goals_not_met", str(tmp_path / "two"))
    assert Journal(tmp_path).last_uses()[STEP.key].step == "first"


@pytest.mark.parametrize("damage", [b"not a database" * 100, None])
def test_a_damaged_journal_is_set_aside_with_a_notice_and_made_anew(journal, tmp_path, warnings, damage):
    record(journal, tmp_path / "one")
    content = bytearray(journal.file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    journal.file.write_bytes(content if damage is None else damage)

    assert [run.status for run in journal.runs()] == ["succeeded"]

    (warning,) = warnings
    assert warning.startswith(f"{journal.file} was damaged (")
    assert warning.endswith("): it is rebuilt, and the damaged file kept as journal-damaged.sqlite")
    assert (tmp_path / "journal-damaged.sqlite").exists()


def test_a_journal_that_can_not_be_written_is_a_notice_and_no_more(journal, tmp_path, warnings):
    (journal.cache / "locks").touch()

    record(journal, tmp_path / "one")

    lock = journal.cache / "locks" / "journal"
    assert warnings == [f"{journal.file} can't be used: {lock}: can't be opened to lock it: Not a directory"]


def test_a_full_disk_is_a_notice_and_no_more(journal, tmp_path, warnings):
    record(journal, tmp_path / "one")
    with sqlite3.connect(journal.file) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    # SQLite's own limit makes it answer as it does on a full disk.
    connect = journal._connect

    def limited():
        connection = connect()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    journal._connect = limited
    record(journal, tmp_path / "two", steps=[STEP._replace(key=f"{number:064}") for number in range(500)])

    assert warnings == [f"{journal.file} can't be used: database or disk is full"]


def test_the_journal_of_a_later_version_is_left_alone(journal, tmp_path, warnings):
    with sqlite3.connect(journal.file) as connection:
        connection.execute("PRAGMA user_version = 99")

    record(journal, tmp_path / "one")

    assert warnings == [f"{journal.file} can't be used: a later version of hfopt made it"]
    assert sqlite3.connect(journal.file).execute("PRAGMA user_version").fetchone() == (99,)


def test_a_run_of_another_machine_that_is_not_at_an_end_may_be_running(journal, tmp_path):
    journal.begin(None, tmp_path / "out")
    journal.do(lambda connection: connection.execute("UPDATE runs SET pid = 0, born = '0'"), None)
    assert journal.runs()[0].status == "killed"

    journal.do(lambda connection: connection.execute("UPDATE runs SET host = 'elsewhere'"), None)

    assert journal.runs()[0].status == "running"


def test_a_process_that_got_a_killed_ones_number_is_not_taken_for_it(journal, tmp_path):
    journal.begin(None, tmp_path / "out")
    assert journal.runs()[0].status == "running"

    journal.do(lambda connection: connection.execute("UPDATE runs SET born = '1'"), None)

    assert journal.runs()[0].status == "killed"


def test_the_birth_of_a_process_is_written_as_the_kernel_writes_it_so_that_older_journals_are_understood(
    journal, tmp_path
):
    journal.begin(None, tmp_path / "out")

    ((born,),) = journal._select("SELECT born FROM runs")

    assert born == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.parametrize("state", ["state", None])
def test_on_a_network_file_system_the_journal_lies_in_the_local_state_folder_and_uses_no_wal(
    tmp_path, monkeypatch, mount, state
):
    mount({"/": ["ext4"], os.path.realpath(tmp_path / "far"): ["nfs4"]})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / state))
    (tmp_path / "far").mkdir()

    far = Journal(tmp_path / "far")
    record(far, tmp_path / "one")

    base = tmp_path / "home" / ".local" / "state" if state is None else tmp_path / state
    assert far.file.parent.parent == base / "hfopt"
    assert sqlite3.connect(far.file).execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert len(far.runs()) == 1
    (tmp_path / "near").mkdir()
    near = Journal(tmp_path / "near")
    record(near, tmp_path / "two")
    assert near.file == tmp_path / "near" / "journal.sqlite"
    assert sqlite3.connect(near.file).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_run_on_a_damaged_journal_succeeds_with_a_notice(project):
    assert project.run().returncode == 0
    (project.folder / ".hfopt-cache" / "journal.sqlite").write_bytes(b"damaged" * 1000)

    done = project.run()

    assert done.returncode == 0
    assert "journal.sqlite was damaged (file is not a database): it is rebuilt" in done.stderr
    assert all(project.cached().values())

"""What the world does: closed and full streams, limits, locales. It is a sentence, with the exit code of a failure."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest

from hfopt.base.errors import HfoptError, PluginError, foreseen
from hfopt.discovery.checks import reason


def shell(project, command, redirection, **options):
    """Run a command of hfopt as a shell with this redirection does."""
    project.write()
    line = f'exec "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "hfopt", *command],
        cwd=project.folder, env=project.environment, capture_output=True, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirection", "why"),
    [(">&-", "it is closed"), (">/dev/full", "No space left on device"), (">&- <&-", "it is closed")],
)
@pytest.mark.parametrize("command", [["--help"], ["--version"], ["plugins", "--json"]], ids=" ".join)
def test_output_that_is_lost_is_said_and_is_a_failure(project, command, redirection, why):
    done = shell(project, command, redirection)

    assert (done.returncode, done.stderr) == (1, f"hfopt: standard output can't be written: {why}\n")


def test_a_run_whose_progress_is_lost_comes_to_its_end_and_says_so(project):
    done = shell(project, ["run", "config.json", "-p", str(project.plugin), "--in-process"], "2>/dev/full")

    assert done.returncode == 1
    assert done.stdout.endswith("\nhfopt: standard error can't be written: No space left on device\n")
    assert project.record["status"] == "succeeded"


@pytest.mark.parametrize(("command", "code"), [(["--version"], 0), (["nonsense"], 2)], ids=["done", "failed"])
def test_without_any_stream_the_exit_code_still_tells(project, command, code):
    assert shell(project, command, "<&- >&- 2>&-").returncode == (code or 1)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_names_that_the_output_can_not_show_are_escaped_for_people_and_not_for_workers(project, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    (project.folder / "line.json").rename(project.folder / "日本.json")
    project.config["input_model"]["config"]["model_path"] = "日本.json"
    project.config["passes"] = {"日本": {"type": "Scale", "config": {"factor": 2.0}}}

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert r"\u65e5\u672c" in done.stderr


def test_a_removed_current_folder_is_said(project):
    command = ["sh", "-c", 'mkdir gone; cd gone; rmdir "$PWD"; exec "$@"', "sh", sys.executable, "-m", "hfopt", "runs"]

    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)

    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("most", "file"), [(0, ".hfopt-cache/format"), (300, ".hfopt-cache")])
def test_a_limit_on_files_is_said_with_what_could_not_be_written(project, most, file):
    project.write()
    done = subprocess.run(
        project.command("run", "config.json"), cwd=project.folder, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )  # fmt: skip

    assert done.returncode == 1
    assert f"{project.folder}/{file}: File too large\n  hint: allow larger files" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mebibytes", [90, 120, 150, 200])
def test_too_little_memory_is_no_traceback(project, mebibytes):
    project.write()
    most = mebibytes * 2**20
    done = subprocess.run(
        project.command("validate", "config.json"), cwd=project.folder, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )  # fmt: skip

    assert "Traceback" not in done.stderr
    assert "is not installed" not in done.stderr
    assert done.returncode == 0 or "emory" in done.stderr


def caused_by(error, cause):
    error.__cause__ = cause
    return error


NO_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch.so: failed to map segment from shared object"),
    ImportError("libtorch.so: cannot allocate memory in static TLS block"),
    RuntimeError("can't start new thread"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory: you tried"),
    caused_by(PluginError("torch is not installed"), ImportError("libc10.so: failed to map segment")),
    caused_by(ImportError("read this for advice"), MemoryError()),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=repr)
def test_too_little_memory_is_called_that_whoever_reports_it(error):
    assert str(foreseen(error)).startswith("not enough memory")
    assert reason(error).startswith("not enough memory")


REFUSED = {
    "a/b: Permission denied": PermissionError(errno.EACCES, "Permission denied", "a/b"),
    "b: Read-only file system": OSError(errno.EROFS, "Read-only file system", b"a", None, b"b"),
    "here: No space left on device": OSError(errno.ENOSPC, "No space left on device"),
    "a: File name too long": OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "a"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_the_system_refuses_is_a_sentence_with_the_file(sentence):
    failure = foreseen(REFUSED[sentence], "here")

    assert isinstance(failure, HfoptError)
    assert failure.message == sentence


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError(), KeyError("x"), RuntimeError("a bug"), ValueError("allocate")], ids=repr
)
def test_a_bug_is_not_foreseen(bug):
    assert foreseen(bug) is None

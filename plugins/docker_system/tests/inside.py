"""A plugin for ``-p`` whose pass does in its container what ``do`` says, and reports what came of it."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pydantic import Field

from hfopt import (
    Component,
    Config,
    InputPath,
    ModelHandle,
    ModelLoader,
    Pass,
    PassResult,
    PreconditionFailed,
    hookimpl,
)


@hookimpl
def hfopt_model_loaders():
    return [Component("Note", f"{__name__}:NoteLoader", "a text")]


@hookimpl
def hfopt_passes():
    return [Component("Act", f"{__name__}:Act", "do something in the container")]


class NoteConfig(Config):
    model_path: InputPath | None = Field(None, description="A text.")


class NoteLoader(ModelLoader):
    Config = NoteConfig

    def fetch(self, context):
        return ModelHandle(type="Note", path=Path(self.config.model_path), files=(Path(self.config.model_path),))

    def open(self, handle, accelerator, settings):
        raise PreconditionFailed("a text can't be run")


class ActConfig(Config):
    do: str = Field(description="One of the functions below.")


class Act(Pass):
    Config = ActConfig
    accepts = frozenset({"Note"})

    def run(self, model, context):
        target = context.folder / "note.txt"
        target.write_text(model.path.read_text() + self.config.do)
        report = ACTS[self.config.do](model.path) or {}
        return PassResult(model.with_(path=target, files=(target,)), report)


def look(note):
    return {
        "uid": os.getuid(),
        "hostname": socket.gethostname(),
        "environment": dict(os.environ),
        "cpus": len(os.sched_getaffinity(0)),
        "home": refused(lambda: Path.home().joinpath("x").write_text("")),
        "temporary": tempfile.gettempdir(),
        "input": refused(lambda: note.write_text("changed")),
        "store": refused(lambda: note.parents[1].joinpath(".hfopt-cache/artifacts/x").write_text("")),
        "root": refused(lambda: Path("/x").write_text("")),
        "network": refused(lambda: socket.create_connection(("192.0.2.1", 80), timeout=1)),
        "capabilities": status("CapEff"),
        "no_new_privileges": status("NoNewPrivs"),
    }


def refused(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return None


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))


def fill_memory(note):
    kept = []
    while True:
        kept.append(bytearray(b"x" * 2**24))


def fill_memory_in_a_child(note):
    subprocess.run([sys.executable, "-c", "x = [bytearray(b'x' * 2**24) for _ in range(1000)]"], check=True)


def segfault(note):
    ctypes.string_at(0)


def hang(note):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    time.sleep(3600)


def hang_in_native_code(note):
    ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the interpreter's lock: no thread of this process runs


def nothing(note):
    """So that what is timed is all else."""


ACTS = {
    act.__name__: act
    for act in (look, fill_memory, fill_memory_in_a_child, segfault, hang, hang_in_native_code, nothing)
}

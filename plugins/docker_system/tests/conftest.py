"""A real engine, and an image with this interpreter: no registry is needed. Packages come from this environment."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hfopt import HfoptError
from hfopt_docker_system.engine import connect

ENVIRONMENT = Path(sys.prefix)
BASE = Path(sys.base_prefix)
LIBRARY = BASE / f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
LOADED_LATER = (
    "libdl",
    "libpthread",
    "librt",
    "libutil",
    "libm",
    "libmvec",
    "libstdc++",
    "libgcc_s",
    "libgomp",
    "libnss_files",
)
"""Libraries that packages with native code need, beside what the interpreter needs itself."""
LEFT_OUT = {"test", "idlelib", "tkinter", "ensurepip", "__pycache__"}


def package_folders() -> list[str]:
    """Where this environment's packages lie, those that are links included."""
    folders = [path for path in map(Path, sys.path) if path.name == "site-packages" and path.is_dir()]
    linked = {each.resolve().parent for folder in folders for each in folder.iterdir() if each.is_symlink()}
    return sorted(map(str, {ENVIRONMENT, *folders, *linked}))


@pytest.fixture(scope="session")
def engine():
    try:
        client = connect()
    except HfoptError as error:
        pytest.skip(f"no engine: {error}")
    yield client
    client.close()


@dataclass
class Project:
    """A folder with a text as its model, and a config that does something with it in a container."""

    folder: Path
    config: dict[str, Any]

    @property
    def local(self) -> dict[str, Any]:
        return self.config["systems"]["box"]["config"]["local_docker_config"]

    def limit(self, **params: Any) -> None:
        self.local["run_params"] |= params

    def do(self, *acts: str) -> None:
        self.config["passes"] = {act: {"type": "Act", "config": {"do": act}} for act in acts}

    def command(self) -> list[str]:
        (self.folder / "config.json").write_text(json.dumps(self.config))
        plugin = Path(__file__).with_name("inside.py")
        return [sys.executable, "-m", "hfopt", "run", "config.json", "-p", str(plugin)]

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        given = os.environ | environment
        return subprocess.run(self.command(), cwd=self.folder, env=given, capture_output=True, text=True)

    def candidate(self) -> dict[str, Any]:
        return json.loads((self.folder / "hfopt-output/run.json").read_text())["results"][0]["candidates"][0]

    def report(self, name: str) -> dict[str, Any]:
        key = next(step["key"] for step in self.candidate()["steps"] if step["name"] == name)
        manifest = self.folder / ".hfopt-cache/artifacts" / key[:2] / key / "manifest.json"
        return json.loads(manifest.read_text())["report"]


@pytest.fixture(scope="session")
def box(python_image) -> dict[str, Any]:
    """The system as an entry of a config, with this interpreter and its packages."""
    volumes = [f"{folder}:{folder}" for folder in package_folders()]
    local = {"image_name": python_image, "run_params": {"volumes": volumes}}
    return {"type": "Docker", "config": {"local_docker_config": local}}


@pytest.fixture
def project(tmp_path, box) -> Project:
    """A project whose passes run in a container, with this interpreter and its packages."""
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "note.txt").write_text("note ")
    config = {
        "input_model": {"type": "Note", "config": {"model_path": "inputs/note.txt"}},
        "systems": {"box": copy.deepcopy(box)},
        "engine": {"host": "box", "target": "box"},
    }
    return Project(tmp_path, config)


@pytest.fixture(scope="session")
def python_image(engine):
    """An image with Python, its package installer and a shell, in which this environment works once it is mounted."""
    name = f"hfopt-test-python:{os.getpid()}"
    engine.api.import_image_from_data(
        packed(), *name.split(":"), changes=[f"ENV PATH={ENVIRONMENT}/bin:{BASE}/bin:/bin"]
    )
    yield name
    engine.images.remove(name, force=True)


def packed() -> bytes:
    """The files of the image, under the paths that they have here."""
    binaries = [Path(sys.executable).resolve(), Path("/bin/sh"), *LIBRARY.glob("lib-dynload/*.so")]
    needed = {path for line in map(linked, binaries) for path in line}
    folder = next(path.parent for path in needed if path.name.startswith("libc.so"))
    needed |= {path for name in LOADED_LATER for path in folder.glob(f"{name}.so*")}
    needed |= {path for name in LOADED_LATER for path in Path("/usr").glob(f"lib/*-linux-gnu/{name}.so*")}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.dereference = True
        for path in (*binaries[:2], LIBRARY, *sorted(needed)):
            archive.add(path, str(path).lstrip("/"), filter=wanted)
        archive.dereference = False
        for path in sorted((BASE / "bin").glob("python3*")):
            if path.is_symlink():
                archive.add(path, str(path).lstrip("/"))
    return content.getvalue()


def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Python's own files, and of packages that happen to be installed beside it only the installer."""
    _, beside, package = member.name.partition("/site-packages/")
    left_out = LEFT_OUT.intersection(member.name.split("/")) or member.name.endswith(".a")
    return None if left_out or (beside and not package.startswith("pip")) else member


def linked(binary: Path) -> set[Path]:
    printed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
    return {Path(each) for each in re.findall(r"(/\S+) \(0x", printed)}

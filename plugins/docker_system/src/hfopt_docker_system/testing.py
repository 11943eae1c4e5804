"""An image with the interpreter that runs this, made without a registry: for tests and benchmarks."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import HfoptError
from hfopt_docker_system.engine import connect

if TYPE_CHECKING:
    from docker import DockerClient

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


@contextmanager
def engine() -> Iterator[DockerClient]:
    """The engine of this machine, for a pytest fixture.

    An engine is a service that only root can start, and not everywhere: without one a test is skipped, and says what
    keeps it from answering. Continuous integration starts one.
    """
    import pytest

    try:
        client = connect()
    except HfoptError as error:
        pytest.skip(f"no engine: {error}")
    with closing(client):
        yield client


@contextmanager
def python_image(engine: DockerClient) -> Iterator[str]:
    """An image with Python, its package installer and a shell, in which this environment works once it is mounted.

    It is gone afterwards.
    """
    name = f"hfopt-test-python:{os.getpid()}"
    engine.api.import_image_from_data(
        packed(), *name.split(":"), changes=[f"ENV PATH={ENVIRONMENT}/bin:{BASE}/bin:/bin"]
    )
    try:
        yield name
    finally:
        engine.images.remove(name, force=True)


def as_here(image: str) -> dict[str, Any]:
    """The system's options with which such an image has the packages of this environment."""
    volumes = [f"{folder}:{folder}" for folder in package_folders()]
    return {"local_docker_config": {"image_name": image, "run_params": {"volumes": volumes}}}


def package_folders() -> list[str]:
    """Where this environment's packages lie, those that are links included."""
    folders = [path for path in map(Path, sys.path) if path.name == "site-packages" and path.is_dir()]
    linked = {each.resolve().parent for folder in folders for each in folder.iterdir() if each.is_symlink()}
    return sorted(map(str, {ENVIRONMENT, *folders, *linked}))


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

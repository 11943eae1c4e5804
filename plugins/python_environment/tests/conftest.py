"""Environments to work with, made without an index: they see packages that are installed here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="session")
def environment_maker() -> Callable[[Path, Iterable[str]], Path]:
    """Makes an environment of this interpreter, without pip, with some of the packages here and what they need."""

    def make(folder: Path, packages: Iterable[str] = ()) -> Path:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (site_packages,) = folder.glob("lib/python*/site-packages")
        for distribution in _closure(packages):
            for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
                if not (site_packages / top).exists():
                    (site_packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
        return folder

    return make


@pytest.fixture
def make_environment(tmp_path, environment_maker) -> Callable[..., Path]:
    """Makes one in the test's own folder."""
    return lambda packages=(): environment_maker(tmp_path / "environment", packages)


def _closure(packages: Iterable[str]) -> list[metadata.Distribution]:
    names = list(packages)
    for name in names:  # which grows meanwhile
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if (need.marker is None or need.marker.evaluate({"extra": ""})) and need.name not in names:
                names.append(need.name)
    return [metadata.distribution(name) for name in names]

"""Environments to work with, made without an index: they see packages that are installed here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement


@pytest.fixture
def make_environment(tmp_path) -> Callable[..., Path]:
    """Makes an environment of this interpreter, without pip, with some of the packages here and what they need."""

    def make(packages: Iterable[str] = (), name: str = "environment") -> Path:
        folder = tmp_path / name
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (site_packages,) = folder.glob("lib/python*/site-packages")
        for distribution in _closure(packages):
            for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
                (site_packages / top).symlink_to(Path(distribution.locate_file(top)).resolve())
        return folder

    return make


def _closure(packages: Iterable[str]) -> list[metadata.Distribution]:
    names = list(packages)
    for name in names:  # which grows meanwhile
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if (need.marker is None or need.marker.evaluate({"extra": ""})) and need.name not in names:
                names.append(need.name)
    return [metadata.distribution(name) for name in names]

"""Every distribution builds into a wheel that holds what it must and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT, *sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_wheel_holds_one_typed_package_and_its_entry_point(folder, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=folder,
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    package = "hfopt" if folder == ROOT else f"hfopt_{folder.name}"
    assert packages == {package}
    assert f"{package}/py.typed" in names
    assert folder != ROOT or "hfopt/discovery/known.toml" in names
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert "hfopt = hfopt.cli.main:main" in text if folder == ROOT else f"{package}.hooks" in text
    assert not [name for name in names if "tests/" in name or "/test_" in name]

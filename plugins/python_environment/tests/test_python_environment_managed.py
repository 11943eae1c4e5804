"""Environments that are made, by uv and by pip: small ones, from an index."""

from __future__ import annotations

import re
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hfopt import PluginError
from hfopt_python_environment import installers, interpreters, managed
from hfopt_python_environment.orders import Order

PLUGGY = Order(interpreters.this(), "pip", needed=("pluggy>=1.5",))
with_each = pytest.mark.parametrize("installer", ["uv", "pip"])
from_an_index = [pytest.mark.engine, pytest.mark.timeout(600)]


def fine(_: Path) -> None:
    """A check that finds nothing wrong."""


def versions(folder: Path) -> dict[str, str]:
    program = "from importlib import metadata; print(*((each.name, each.version) for each in metadata.distributions()))"
    printed = subprocess.run([folder / "bin" / "python", "-c", program], check=True, capture_output=True, text=True)
    return dict(re.findall(r"\('([\w-]+)', '(\S+)'\)", printed.stdout))


def test_offline_an_environment_that_is_not_made_is_refused_with_what_makes_it(tmp_path):
    with pytest.raises(PluginError) as told:
        managed.ready(PLUGGY, tmp_path, print, fine, offline=True)

    assert str(told.value) == (
        f"the environment {tmp_path}/environments/{PLUGGY.key} is not made yet, and offline nothing is installed\n"
        "  hint: run once without --offline and HF_HUB_OFFLINE: hfopt run CONFIG; it installs pluggy>=1.5"
    )


def test_uv_that_is_asked_for_and_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(installers, "find_uv", lambda: None)

    assert installers.choose(None) == "pip"
    with pytest.raises(PluginError, match="uv is not on the PATH"):
        installers.choose("uv")


class TestFromAnIndex:
    pytestmark = from_an_index

    @with_each
    def test_it_is_made_once_with_the_versions_here_and_locked(self, tmp_path, monkeypatch, installer):
        order, told, checked = replace(PLUGGY, installer=installer), [], []
        monkeypatch.setattr(managed, "installed_here", lambda: {"pluggy": "1.5.0"})
        half_made = tmp_path / "environments" / order.key / "lib" / "left.txt"
        half_made.parent.mkdir(parents=True)
        half_made.touch()

        def make(_):
            return managed.ready(order, tmp_path, lambda *event: told.append(event[0]), checked.append, offline=False)

        with ThreadPoolExecutor() as two:
            folder, same = two.map(make, range(2))

        assert folder == same
        assert checked == [folder]
        assert [line for line in told if line.startswith("makes")] == [
            f"makes an environment of pluggy>=1.5 with {installer} in {folder}"
        ]
        assert "waiting for another run that makes the same environment" in told
        assert not half_made.exists()
        assert versions(folder)["pluggy"] == "1.5.0"
        assert "pluggy==1.5.0" in (folder / installers.LOCK).read_text()
        assert ("--hash=sha256:" in (folder / installers.LOCK).read_text()) == (installer == "uv")
        assert managed.ready(order, tmp_path, pytest.fail, pytest.fail, offline=True) == folder

    @with_each
    def test_a_version_here_that_something_refuses_gives_way(self, tmp_path, installer):
        order = replace(PLUGGY, installer=installer, needed=("pluggy>=1.6",))

        installers.INSTALLERS[installer](order, tmp_path / "e", {"pluggy": "1.5.0", "packaging": "25.0"}, print)

        assert versions(tmp_path / "e")["pluggy"] >= "1.6"

    @with_each
    def test_a_build_of_torch_comes_from_where_pip_finds_the_one_here(self, tmp_path, monkeypatch, installer):
        write_wheel(tmp_path / "wheels", "torch", "2.9.0+cpu")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        order = replace(PLUGGY, installer=installer, needed=("torch>=2.9",))

        installers.INSTALLERS[installer](order, tmp_path / "e", {"torch": "2.9.0+cpu"}, print)

        found = versions(tmp_path / "e")
        assert found.pop("torch") == "2.9.0+cpu"
        assert found.keys() <= {"pip", "setuptools"}

    @with_each
    def test_a_lock_is_all_that_is_installed(self, tmp_path, installer):
        lock = tmp_path / "lock.txt"
        lock.write_text("pluggy==1.5.0\n")

        installers.INSTALLERS[installer](replace(PLUGGY, installer=installer, lock=lock), tmp_path / "e", {}, print)

        assert versions(tmp_path / "e")["pluggy"] == "1.5.0"

    @with_each
    def test_what_can_not_be_had_is_told_and_leaves_nothing(self, tmp_path, installer):
        order = replace(PLUGGY, installer=installer, asked=("pluggy==0.0.99",))

        with pytest.raises(PluginError, match=r"the environment can't be made: .*pluggy") as told:
            managed.ready(order, tmp_path, lambda *_: None, fine, offline=False)

        assert "pluggy==0.0.99" in told.value.message
        assert [each.name for each in (tmp_path / "environments").iterdir()] == [f"{order.key}.lock"]


def write_wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir()
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, content)

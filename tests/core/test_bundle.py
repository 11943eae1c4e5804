"""hfopt as a folder: complete, made once for its content, and counted as what was bundled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hfopt.cache.bundle import FILES, bundle
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins, versions
from hfopt.discovery.versions import Environment

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return bundle(ArtifactStore(tmp_path_factory.mktemp("cache")), Plugins.discover([TOY]))


def python(folder: Path, code: str) -> str:
    """What Python prints that finds the bundle first."""
    given = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_plugin_is_found_in_it_and_counts_as_it_does_at_home(made):
    code = """
import hfopt
from hfopt.discovery.plugins import Plugins
from hfopt.discovery.versions import Environment
here = Environment()
print(hfopt.__file__)
for info in Plugins.discover([]).infos:
    if info.distribution is not None:
        print(info.distribution, here.version(info.distribution), info.hooks.__file__, info.problem)
"""
    file, *lines = python(made, code).splitlines()

    assert file.startswith(str(made))
    here, names = Environment(), versions(Plugins.discover([]).infos)
    told = {line.split()[0]: line.split()[1:] for line in lines}
    assert told.keys() == names.keys()
    for name, (version, place, problem) in told.items():
        assert version == here.version(name)
        assert place.startswith(str(made))
        assert problem == "None"


def test_it_holds_plugin_files_and_no_tests(made):
    assert (made / FILES / "toy.py").read_bytes() == TOY.read_bytes()
    assert not [file for file in made.rglob("test_*.py") if "testing" not in file.parts]


def test_the_same_content_is_made_once_and_other_content_is_another_bundle(tmp_path):
    store, file = ArtifactStore(tmp_path), tmp_path / "mine.py"
    file.write_text("from hfopt import hookimpl\n")
    first = bundle(store, Plugins.discover([file]))
    when = first.stat().st_mtime_ns

    assert bundle(store, Plugins.discover([file])) == first
    assert first.stat().st_mtime_ns == when
    file.write_text("from hfopt import Component, hookimpl\n")
    assert bundle(store, Plugins.discover([file])) != first
    assert not [*(tmp_path / "making").iterdir()]


def test_a_plugin_with_compiled_files_is_left_out(tmp_path, monkeypatch):
    packages = tmp_path / "packages"
    about = packages / "compiled_plugin-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: compiled-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hfopt.plugins]\ncompiled = compiled_plugin\n")
    (about / "RECORD").write_text("compiled_plugin.py,,\ncompiled_part.so,,\n")
    (packages / "compiled_plugin.py").write_text("from hfopt import hookimpl\n")
    (packages / "compiled_part.so").write_bytes(b"")
    monkeypatch.syspath_prepend(packages)

    made = bundle(ArtifactStore(tmp_path / "cache"), Plugins.discover([]))

    assert (made / "hfopt").is_dir()
    assert not [*made.glob("compiled*")]


def test_a_requirement_that_is_not_met_there_is_named_with_what_was_found(made, tmp_path):
    about = tmp_path / "pluggy-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pluggy\nVersion: 0.1\n")
    code = f"""
import sys
from importlib import metadata
sys.path.insert(0, {str(tmp_path)!r})
from hfopt.base.errors import PluginError
from hfopt.worker.serve import check_distributions
try:
    check_distributions({{"hfopt": metadata.version("hfopt")}})
except PluginError as error:
    print(error)
"""
    told = python(made, code)

    assert "packages where the step runs don't fit: pluggy>=1.5 is needed by hfopt; found: 0.1" in told
    assert f"{sys.executable} -m pip install 'pluggy>=1.5'" in told

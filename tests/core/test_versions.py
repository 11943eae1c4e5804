"""What counts as another version of a component: of installed distributions, and of what a ``-p`` file imports."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hfopt import Component
from hfopt.discovery.plugins import RegisteredComponent
from hfopt.discovery.versions import Environment

HOOKS_ENTRY = "[hfopt.plugins]\nacme = acme.hooks\n"


def hash_of(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def install(folder: Path, name: str, files: dict[str, str], requires=(), **more: str) -> Path:
    """What an installer leaves of a wheel: the files, and a .dist-info with their hashes.

    :param more: further files of the .dist-info, by stem
    """
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
    for file, text in files.items():
        (folder / file).parent.mkdir(exist_ok=True, parents=True)
        (folder / file).write_text(text)
    record = "".join(f"{file},{hash_of(text)},{len(text)}\n" for file, text in files.items())
    (info / "RECORD").write_text(f"{record}{info.name}/RECORD,,\n")
    for file, text in more.items():
        (info / {"entry_points": "entry_points.txt"}.get(file, f"{file}.json")).write_text(text)
    return info


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder of installed distributions on the path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_plugin_reinstalled_with_other_code_under_the_same_version_counts(site):
    install(site, "acme", {"acme/hooks.py": "one"}, entry_points=HOOKS_ENTRY)
    before = Environment().fingerprint("acme")["acme"]

    install(site, "acme", {"acme/hooks.py": "two"}, entry_points=HOOKS_ENTRY)

    assert before.startswith("1.0+")
    assert Environment().fingerprint("acme")["acme"] != before


def test_the_core_itself_counts_by_its_code(site):
    install(site, "hfopt", {"hfopt/run.py": "one"})
    before = Environment().fingerprint(None)["hfopt"]

    install(site, "hfopt", {"hfopt/run.py": "two"})

    assert before.startswith("1.0+")
    assert Environment().fingerprint(None)["hfopt"] != before


def test_what_an_installer_writes_of_its_own_does_not_count(site):
    info = install(site, "acme", {"acme/hooks.py": "one"}, entry_points=HOOKS_ENTRY)
    before = Environment().fingerprint("acme")

    with (info / "RECORD").open("a") as record:
        record.write(
            f"{info.name}/INSTALLER,{hash_of('uv')},2\n{info.name}/REQUESTED,{hash_of('')},0\n"
            f"../../../bin/acme,{hash_of('script')},6\nacme/__pycache__/hooks.cpython-311.pyc,,\n"
        )

    assert Environment().fingerprint("acme") == before


def test_what_is_installed_from_elsewhere_than_an_index_counts_by_its_code_wherever_it_is_required(site):
    install(site, "acme", {"acme/hooks.py": "one"}, ["libone", "libtwo"], entry_points=HOOKS_ENTRY)
    install(site, "libone", {"libone.py": "one"}, direct_url=json.dumps({"url": "file:///a.whl", "archive_info": {}}))
    install(site, "libtwo", {"libtwo.py": "one"})

    before = Environment().fingerprint("acme")
    install(site, "libone", {"libone.py": "two"})

    assert before["libone"] != Environment().fingerprint("acme")["libone"]
    assert before["libtwo"] == Environment().fingerprint("acme")["libtwo"] == "1.0"


def test_a_wheel_that_pip_installs_twice_is_two_versions_if_its_code_differs_and_one_if_not(site, tmp_path):
    def reinstall(code: str) -> str:
        info = "wheelie-1.0.dist-info"
        wheel = tmp_path / "wheelie-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("wheelie.py", code)
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: wheelie\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", f"wheelie.py,{hash_of(code)},{len(code)}\n{info}/RECORD,,\n")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--upgrade"]
        subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
        return Environment().fingerprint("wheelie")["wheelie"]

    one, two, again = reinstall("x = 1"), reinstall("x = 2"), reinstall("x = 1")

    assert one == again != two


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Path:
    """A ``-p`` file with modules beside it, of which it imports one at its top and one in a function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "local_tools").mkdir()
    files = {
        "plugin.py": "import json, near_module.x\ndef run():\n    from local_tools.deep import y\n",
        "near_module.py": "from further_module import z\nimport plugin, near_module, nowhere_to_be_found",
        "further_module.py": "x = 1",
        "unrelated_module.py": "x = 1",
        "local_tools/deep.py": "from . import other",
        "local_tools/other.py": "import libone",
        "local_tools/table.csv": "1",
    }
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    return tmp_path / "plugin.py"


def test_a_plugin_file_counts_with_the_local_modules_that_it_imports_anywhere(plugin):
    found = Environment().file_fingerprint(plugin)

    names = {name.removeprefix("module:") for name in found if name.startswith("module:")}
    assert names == {"plugin", "near_module", "further_module", "local_tools"}
    assert found.items() >= Environment().fingerprint(None).items()
    assert "near_module" not in sys.modules


@pytest.mark.parametrize(
    "file", ["plugin.py", "near_module.py", "further_module.py", "local_tools/other.py", "local_tools/table.csv"]
)
def test_a_change_in_any_of_them_is_another_version(plugin, file):
    before = Environment().file_fingerprint(plugin)

    with (plugin.parent / file).open("a") as changed:
        changed.write("\n# changed")

    assert Environment().file_fingerprint(plugin) != before


def test_a_change_elsewhere_is_none(plugin):
    before = Environment().file_fingerprint(plugin)

    (plugin.parent / "unrelated_module.py").write_text("x = 2")

    assert Environment().file_fingerprint(plugin) == before


def test_the_distributions_that_a_plugin_file_or_its_modules_import_count_with_what_they_require(plugin, site):
    assert "libone" not in Environment().file_fingerprint(plugin)

    install(site, "libone", {"libone/__init__.py": ""}, ["libtwo", 'dev; extra == "test"'])
    install(site, "libtwo", {"libtwo.py": ""})
    install(site, "dev", {"dev.py": ""})

    assert Environment().file_fingerprint(plugin).items() >= {"libone": "1.0", "libtwo": "1.0"}.items()
    assert "dev" not in Environment().file_fingerprint(plugin)


def test_a_module_may_have_another_name_than_its_distribution(plugin, site):
    install(site, "lib-of-one", {"libone/__init__.py": ""})

    assert Environment().file_fingerprint(plugin)["lib-of-one"] == "1.0"


def test_an_editable_distribution_that_a_plugin_file_imports_counts_by_its_sources(plugin, site, tmp_path):
    sources = tmp_path / "with space"
    sources.mkdir()
    (sources / "libone.py").write_text("x = 1")
    origin = {"url": sources.as_uri(), "dir_info": {"editable": True}}
    install(site, "libone", {}, direct_url=json.dumps(origin))
    before = Environment().file_fingerprint(plugin)["libone"]

    (sources / "libone.py").write_text("x = 2")

    assert before.startswith("source:")
    assert Environment().file_fingerprint(plugin)["libone"] != before


def test_a_plugin_file_that_is_no_python_counts_all_the_same(tmp_path):
    (tmp_path / "odd.py").write_text("def (")

    assert "module:odd" in Environment().file_fingerprint(tmp_path / "odd.py")


def test_a_component_has_the_versions_of_its_distribution_or_of_its_file(plugin):
    component = Component("A", "a:A", "")

    assert Environment().versions_of(
        RegisteredComponent(component, "hfopt_passes", "x", "hfopt")
    ) == Environment().fingerprint("hfopt")
    assert Environment().versions_of(
        RegisteredComponent(component, "hfopt_passes", "x", None, plugin)
    ) == Environment().file_fingerprint(plugin)

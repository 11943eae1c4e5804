"""What interpreters tell of themselves, and what is told of those that do not do."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from hfopt import PluginError
from hfopt_python_environment import interpreters
from hfopt_python_environment.requirements import of_core


def test_an_interpreter_is_found_in_its_environment_and_in_its_bin_folder(make_environment):
    folder = make_environment()
    python = folder / "bin" / "python"

    assert [interpreters.find(place) for place in (folder, folder / "bin", python)] == [python] * 3


def test_a_folder_without_an_interpreter_is_told(tmp_path):
    with pytest.raises(PluginError) as told:
        interpreters.find(tmp_path)

    assert str(told.value) == (
        f"{tmp_path} has no interpreter: there is neither bin/python nor python in it\n"
        "  hint: name the folder of an environment, its bin folder, or its interpreter in python_environment_path"
    )


def test_an_interpreter_tells_versions_of_what_is_there(make_environment):
    folder = make_environment(["pluggy"])

    told = interpreters.ask(folder / "bin" / "python", {}, ["Pluggy", "numpy"])

    assert told.installed == {"pluggy": metadata.version("pluggy")}
    assert told.identity == interpreters.this().identity
    assert told.marks == {
        "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "python_full_version": platform.python_version(),
    }


def test_modules_in_the_current_folder_are_not_taken_for_pythons(make_environment, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)

    assert interpreters.ask(make_environment() / "bin" / "python", {}).version == sys.version_info[:3]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\nexit 0\n", "{} is no Python interpreter"),
        (
            "#!/bin/sh\necho no such library >&2\nexit 127\n",
            "{} can't be used: it ended with exit code 127: no such library",
        ),
        ("#!/nowhere/python\n", "{} can't be run: No such file or directory"),
    ],
)
def test_what_is_no_interpreter_is_told(tmp_path, script, message):
    file = tmp_path / "python"
    file.write_text(script)
    file.chmod(0o755)

    with pytest.raises(PluginError) as told:
        interpreters.ask(file, dict(os.environ))

    assert told.value.message == message.format(file)


def test_an_older_python_is_told_with_what_makes_another(tmp_path):
    file = tmp_path / "python"
    file.write_text(
        """#!/bin/sh
echo '{"version": [3, 9, 1], "tag": "cpython-39", "machine": "x86_64", "home": "/usr", "installed": {}}'
"""
    )
    file.chmod(0o755)

    with pytest.raises(PluginError) as told:
        interpreters.check(interpreters.ask(file, {}), of_core())

    assert str(told.value) == (
        f"{file} is Python 3.9.1; hfopt needs 3.11 or later\n"
        "  hint: make the environment with another Python: python3.11 -m venv FOLDER"
    )


def test_what_is_missing_and_what_is_too_old_is_told_with_the_command_that_mends_it(make_environment):
    python = make_environment(["pluggy"]) / "bin" / "python"
    needed = [Requirement("numpy>=2.1"), Requirement("pluggy>=99")]

    with pytest.raises(PluginError) as told:
        interpreters.check(interpreters.ask(python, {}, ["numpy", "pluggy"]), needed)

    assert str(told.value) == (
        f"{python} lacks what hfopt needs: numpy: found none, needed >=2.1; "
        f"pluggy: found {metadata.version('pluggy')}, needed >=99\n"
        f"  hint: uv pip install --python {python} 'numpy>=2.1' 'pluggy>=99'"
    )


def test_an_environment_with_all_that_the_core_requires_does(make_environment):
    names = [each.name for each in of_core()]
    python = make_environment(names) / "bin" / "python"

    interpreters.check(interpreters.ask(python, {}, names), of_core())

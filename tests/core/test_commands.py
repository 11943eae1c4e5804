"""Commands: hfopt's own, and those that plugins offer."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from hfopt.base.version import __version__

GREETER = """
from hfopt import Command, HfoptError

class Greet(Command):
    @classmethod
    def add_arguments(cls, parser):
        parser.add_argument("name")

    @classmethod
    def execute(cls, args):
        if args.name == "nobody":
            raise HfoptError("there is nobody to greet", hint="name somebody")
        print(f"hello {args.name}")
        return 0

class Half(Command):
    @classmethod
    def add_arguments(cls, parser):
        "Nothing."
"""
HOOKS = """
from hfopt import Component, hookimpl

@hookimpl
def hfopt_commands():
    return [
        Component("greet", "greeter:Greet", "say hello"),
        Component("half", "greeter:Half", "can't be loaded"),
    ]
"""


def distribution(folder, name, hooks):
    """What pip leaves of a plugin: its modules, and a .dist-info with its entry point."""
    (folder / f"{name}_hooks.py").write_text(hooks)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: hfopt>=0.1\n")
    (info / "entry_points.txt").write_text(f"[hfopt.plugins]\n{name} = {name}_hooks\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder on the path into which a plugin with commands is installed."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "greeter.py").write_text(GREETER)
    distribution(folder, "greeter", HOOKS)
    return folder


def hfopt(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "hfopt", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_plugin_offers_a_command(installed):
    done = hfopt(installed, "greet", "world")

    assert (done.returncode, done.stdout, done.stderr) == (0, "hello world\n", "")


def test_a_command_of_a_plugin_fails_as_hfopts_own_do(installed):
    done = hfopt(installed, "greet", "nobody")

    assert (done.returncode, done.stderr) == (1, "hfopt: there is nobody to greet\n  hint: name somebody\n")


def test_help_lists_what_plugins_offer(installed):
    done = hfopt(installed, "--help")

    assert done.returncode == 0
    assert "    greet     say hello\n" in done.stdout


def test_a_name_of_hfopts_own_can_not_be_taken(tmp_path):
    distribution(tmp_path, "taker", HOOKS.replace('"greet"', '"run"'))

    listed, helped = hfopt(tmp_path, "plugins"), hfopt(tmp_path, "--help")

    assert "hfopt_commands declares 'run', which hfopt has itself" in listed.stdout
    assert "say hello" not in helped.stdout


@pytest.mark.parametrize(
    ("written", "code", "message"),
    [
        ("rnu", 2, r"no command named 'rnu'\n  hint: did you mean 'run'\?\n"),
        ("gret", 2, r"no command named 'gret'; installed: .*\bgreet, half\b.*\n  hint: did you mean 'greet'\?\n"),
        ("half", 3, r"command 'half' of greeter \(greeter\) is NOT LOADED: greeter:Half lacks the method"),
    ],
)
def test_a_command_that_is_not_there_is_a_sentence(installed, written, code, message):
    done = hfopt(installed, written)

    assert done.returncode == code
    assert re.match(f"hfopt: {message}", done.stderr)


def test_a_command_whose_plugin_is_not_installed_answers_with_the_install_line():
    program = (
        "import importlib.metadata, sys\n"
        "importlib.metadata.entry_points = lambda **_: ()\n"
        "from hfopt.cli.main import main\n"
        "sys.exit(main(['init', 'model']))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 3
    assert done.stderr == (
        "hfopt: command 'init' needs hfopt-init, which is not installed\n  hint: pip install ./plugins/init\n"
    )


@pytest.mark.parametrize("arguments", [["--version"], ["runs", "--help"]])
def test_plugins_are_not_looked_for_without_need(arguments):
    program = (
        "import sys\nfrom hfopt.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('hfopt.discovery.plugins' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "False"


def test_the_version_is_printed():
    assert hfopt("", "--version").stdout == f"hfopt {__version__}\n"

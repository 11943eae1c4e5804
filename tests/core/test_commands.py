"""Commands: hfopt's own, and those that plugins offer."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace

import pytest

from hfopt import Command, Component, HfoptError, hookimpl
from hfopt.base.version import __version__
from hfopt.cli import main as cli
from hfopt.discovery.plugins import Plugins
from hfopt.discovery.sources import PluginInfo


class Greet(Command):
    @classmethod
    def add_arguments(cls, parser):
        parser.add_argument("name")

    @classmethod
    def execute(cls, args: Namespace) -> int:
        if args.name == "nobody":
            raise HfoptError("there is nobody to greet", hint="name somebody")
        print(f"hello {args.name}")
        return 0


class Half(Command):
    @classmethod
    def add_arguments(cls, parser):
        """Nothing."""


class Hooks:
    """What a plugin's hooks.py would be."""

    @hookimpl
    def hfopt_commands(self):
        here = lambda name: f"test_commands:{name}"  # noqa: E731 - short
        return [
            Component("greet", here("Greet"), "say hello"),
            Component("half", here("Half"), "can't be loaded"),
            Component("run", here("Greet"), "is not hfopt's own"),
        ]


@pytest.fixture
def offered(monkeypatch):
    """As if a distribution with these hooks were installed, and no other."""
    plugins = Plugins()
    monkeypatch.setitem(sys.modules, "test_commands", sys.modules[__name__])
    plugins.register(PluginInfo("greeter", "acme-greeter", "1", hooks=Hooks()))
    monkeypatch.setattr(Plugins, "discover", lambda *_: plugins)


def test_a_plugin_offers_a_command(offered, capsys):
    assert cli.main(["greet", "world"]) == 0
    assert capsys.readouterr().out == "hello world\n"


def test_a_command_of_a_plugin_fails_as_hfopts_own_do(offered, capsys):
    assert cli.main(["greet", "nobody"]) == 1
    assert capsys.readouterr().err == "hfopt: there is nobody to greet\n  hint: name somebody\n"


def test_help_lists_them_and_the_names_of_hfopts_own_are_taken(offered, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "    greet     say hello\n" in shown
    assert "is not hfopt's own" not in shown


@pytest.mark.parametrize(
    ("written", "code", "message"),
    [
        ("rnu", 2, "no command named 'rnu'\n  hint: did you mean 'run'?\n"),
        ("gret", 2, "no command named 'gret'; installed: greet, half, run\n  hint: did you mean 'greet'?\n"),
        ("init", 3, "command 'init' needs hfopt-init, which is not installed\n  hint: pip install ./plugins/init\n"),
        ("half", 3, "command 'half' of greeter (acme-greeter) is NOT LOADED: test_commands:Half lacks the method"),
    ],
)
def test_a_command_that_is_not_there_is_a_sentence(offered, capsys, written, code, message):
    assert cli.main([written]) == code
    assert capsys.readouterr().err.startswith(f"hfopt: {message}")


@pytest.mark.parametrize("arguments", [["--version"], ["runs", "--help"]])
def test_plugins_are_not_looked_for_without_need(arguments):
    program = (
        "import sys\nfrom hfopt.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('hfopt.discovery.plugins' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "False"


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])

    assert capsys.readouterr().out == f"hfopt {__version__}\n"

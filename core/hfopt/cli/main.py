"""The `hfopt` command: arguments, exit codes, how errors look. What the commands do is in ``hfopt.cli.commands``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hfopt.base.errors import ExitCode, HfoptError, UsageError
from hfopt.base.processes import interruptible
from hfopt.base.text import did_you_mean
from hfopt.base.version import __version__

if TYPE_CHECKING:
    from hfopt.api.commands import Command

COMMANDS = ("run", "validate", "plugins", "runs", "cache", "worker")


def build_parser(wanted: str | None = None) -> ArgumentParser:
    """The whole command line.

    :param wanted: the command that will be executed; None: the plugins' are listed, and none can be
    :raises HfoptError: there is no such command, or its plugin is not installed or broken
    """
    parser = ArgumentParser(
        prog="hfopt",
        description="Makes Hugging Face models small and fast and proves that they still work.",
        epilog="exit codes: 0 done, 1 no usable result or a goal missed, 2 config or usage, 3 a plugin or accelerator "
        "is missing, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"hfopt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, summary: str, command: Any) -> None:
        """Add a command: a module or class that takes arguments and executes."""
        added = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.add_argument("--verbose", action="store_true", help="also show the traceback of expected failures")
        if command is not None:
            command.add_arguments(added)
            added.set_defaults(execute=command.execute)

    for name in COMMANDS:
        module = importlib.import_module(f"hfopt.cli.commands.{name}")
        add(name, module.SUMMARY, module)
    if wanted not in COMMANDS:
        for name, (summary, command) in _offered(wanted).items():
            add(name, summary, command)
    return parser


def _offered(wanted: str | None) -> dict[str, tuple[str, type[Command] | None]]:
    """The summaries of the commands that plugins offer, and the class of the wanted one."""
    from hfopt.discovery.plugins import Plugins

    plugins = Plugins.discover()
    offers = {each.component.name: each for each in plugins.of_kind("hfopt_commands")}
    if wanted is not None and wanted not in offers and (near := did_you_mean(wanted, COMMANDS)):
        raise UsageError(f"no command named {wanted!r}", hint=near)
    chosen = None if wanted is None else plugins.find("hfopt_commands", wanted)
    return {
        name: (each.component.summary, each.load() if each is chosen else None)
        for name, each in offers.items()
        if name not in COMMANDS
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :return: the exit code of docs/reference/cli.md
    """
    try:
        with interruptible():
            given = sys.argv[1:] if argv is None else argv
            first = next(iter(given), "-")
            wanted = COMMANDS[0] if first == "--version" else None if first.startswith("-") else first
            try:
                args = build_parser(wanted).parse_args(given)
                code = int(args.execute(args))
            except HfoptError as error:
                if "--verbose" in given:
                    traceback.print_exc()
                print(f"hfopt: {error}", file=sys.stderr)
                code = error.exit_code
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # The reader of our output has closed it (`| head`). The interpreter's own flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NO_RESULT
    except KeyboardInterrupt:
        print("hfopt: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED

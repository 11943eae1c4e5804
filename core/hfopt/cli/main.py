"""The `hfopt` command: arguments, exit codes, how errors look. What the commands do is in ``hfopt.cli.commands``."""

from __future__ import annotations

import importlib
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence

from hfopt.api.commands import OWN, Command
from hfopt.base.errors import ExitCode, HfoptError, UsageError, foreseen
from hfopt.base.processes import disable_telemetry, end_undisturbed, interruptible
from hfopt.base.secrets import redacted
from hfopt.base.text import did_you_mean, shown
from hfopt.base.version import __version__
from hfopt.cli.streams import kept


def build_parser(offered: Mapping[str, tuple[str, type[Command] | None]] | None = None) -> ArgumentParser:
    """The whole command line.

    :param offered: what `commands_of_plugins` returned
    """
    parser = ArgumentParser(
        prog="hfopt",
        description="Makes Hugging Face models small and fast and proves that they still work.",
        epilog="exit codes: 0 done, 1 no usable result or a goal missed, 2 config or usage, 3 a plugin or accelerator "
        "is missing, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"hfopt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    own = {name: importlib.import_module(f"hfopt.cli.commands.{name}") for name in OWN}
    every = {name: (module.SUMMARY, module) for name, module in own.items()}
    for name, (summary, command) in {**every, **(offered or {})}.items():
        added = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.add_argument("--verbose", action="store_true", help="also show the traceback of expected failures")
        if command is not None:
            command.add_arguments(added)
            added.set_defaults(execute=command.execute)
    return parser


def commands_of_plugins(wanted: str | None) -> dict[str, tuple[str, type[Command] | None]]:
    """The summaries of the commands that plugins offer, and the class of the wanted one: no other is imported.

    :raises HfoptError: there is no such command, or its plugin is not installed or broken
    """
    from hfopt.discovery.plugins import Plugins

    plugins = Plugins.discover()
    offers = plugins.of_kind("hfopt_commands")
    offered = {None, *(each.component.name for each in offers)}
    if wanted not in offered and (near := did_you_mean(str(wanted), OWN)) is not None:
        raise UsageError(f"no command named {wanted!r}", hint=near)
    chosen = None if wanted is None else plugins.find("hfopt_commands", wanted)
    return {each.component.name: (each.component.summary, each.load() if each is chosen else None) for each in offers}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :return: the exit code of docs/reference/cli.md
    """
    disable_telemetry()
    sys.excepthook = lambda *error: print(redacted("".join(traceback.format_exception(*error))), file=sys.stderr)
    given = sys.argv[1:] if argv is None else argv
    with kept() as lost:
        code = _execute(given)
    if argv is None:
        end_undisturbed()
    return code or (ExitCode.NO_RESULT if lost else ExitCode.DONE)


def _execute(given: Sequence[str]) -> int:
    """Run a command, and say why it failed unless that is a bug: then it raises."""
    try:
        with interruptible():
            first = given[0] if given else "--help"
            own = first in (*OWN, "--version")
            offered = {} if own else commands_of_plugins(None if first.startswith("-") else first)
            args = build_parser(offered).parse_args(given)
            return int(args.execute(args))
    except SystemExit as end:  # argparse's, which has said why
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("hfopt: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except (HfoptError, ImportError, MemoryError, OSError, RuntimeError, UnicodeError) as error:
        if (failure := foreseen(error)) is None:
            raise
        if "--verbose" in given:
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        print(f"hfopt: {shown(str(failure))}", file=sys.stderr)
        return failure.exit_code

"""The `hfopt` command: arguments, exit codes, how errors look. What the commands do is in ``hfopt.cli.commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from hfopt.base.errors import ExitCode, HfoptError
from hfopt.base.processes import interruptible
from hfopt.base.version import __version__

COMMANDS = ("run", "validate", "plugins", "runs", "cache", "worker")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="hfopt",
        description="Makes Hugging Face models small and fast and proves that they still work.",
        epilog="exit codes: 0 done, 1 no usable result or a goal missed, 2 config or usage, 3 a plugin or accelerator "
        "is missing, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"hfopt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"hfopt.cli.commands.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=f"{module.SUMMARY.capitalize()}.")
        command.add_argument("--verbose", action="store_true", help="also show the traceback of expected failures")
        module.add_arguments(command)
        command.set_defaults(execute=module.execute)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :return: the exit code of docs/reference/cli.md
    """
    try:
        with interruptible():
            args = build_parser().parse_args(argv)
            try:
                code = int(args.execute(args))
            except HfoptError as error:
                if args.verbose:
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

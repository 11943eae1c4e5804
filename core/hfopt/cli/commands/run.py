"""`hfopt run`: from a config to a measured, optimised model."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from hfopt.base.files import path_of
from hfopt.cli.commands.common import add_config, add_json, add_plugin_files

SUMMARY = "run a config: load, optimise, measure"


def add_arguments(parser: ArgumentParser) -> None:
    add_config(parser)
    add_plugin_files(parser)
    parser.add_argument(
        "--output-dir", type=path_of, metavar="DIR", help="use this instead of the config's engine.output_dir"
    )
    parser.add_argument(
        "--offline", action="store_true", help="make no network requests: use local folders and the hub's cache"
    )
    parser.add_argument("--in-process", action="store_true", help="run steps in this process, for a debugger")
    add_json(parser, "run.json")


def execute(args: Namespace) -> int:
    from rich.console import Console

    from hfopt.cli.terminal import Terminal
    from hfopt.engine import summary
    from hfopt.engine.record import Interrupted
    from hfopt.engine.run import exit_code, run

    try:
        with Terminal() as terminal:
            record = run(
                args.config,
                output_dir=args.output_dir,
                plugin_files=args.plugin_files,
                in_process=args.in_process,
                offline=args.offline,
                reporter=terminal,
            )
    except Interrupted as interrupt:
        record = interrupt.record
    if args.json:
        print(json.dumps(record.data, indent=1, ensure_ascii=False))
    else:
        width = None if sys.stdout.isatty() else summary.WIDTH
        summary.write(Console(highlight=False, width=width), record.data, record.folder)
    return exit_code(record)

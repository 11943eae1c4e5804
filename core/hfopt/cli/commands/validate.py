"""`hfopt validate`: every mistake in a config, without running anything."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from hfopt.cli.commands.common import add_config, add_json, add_plugin_files

SUMMARY = "check a config without running it"


def add_arguments(parser: ArgumentParser) -> None:
    add_config(parser)
    add_plugin_files(parser)
    add_json(parser, "what is valid, or the problems")


def execute(args: Namespace) -> int:
    from hfopt.base.errors import ConfigError
    from hfopt.base.text import shown
    from hfopt.base.values import dotted
    from hfopt.planning.builder import validate

    try:
        config = validate(args.config, plugin_files=args.plugin_files)
    except ConfigError as error:
        if not args.json:
            raise
        found = [{"path": dotted(p.path), "message": p.message, "hint": p.hint} for p in error.problems]
        print(json.dumps({"valid": False, "problems": found}, indent=1))
        return error.exit_code
    if args.json:
        print(json.dumps({"valid": True, "passes": list(config.passes), "notices": config.notices}, indent=1))
        return 0
    for notice in config.notices:
        print(f"note: {shown(notice)}")
    passes = ", ".join(config.passes)
    print(shown(f"{args.config}: valid: {config.input_model.registered.component.name}, then {passes}"))
    return 0

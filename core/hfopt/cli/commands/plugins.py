"""`hfopt plugins`: what is installed, what it offers, and why something is not loaded."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from hfopt.cli.commands.common import add_json, add_plugin_files

SUMMARY = "list the installed plugins and what they offer"


def add_arguments(parser: ArgumentParser) -> None:
    add_plugin_files(parser)
    add_json(parser, "the list")


def execute(args: Namespace) -> int:
    from hfopt.discovery.plugins import KINDS, Plugins

    plugins = Plugins.discover(args.plugin_files)
    listed: list[dict[str, Any]] = [
        {
            "name": info.name,
            "distribution": info.distribution,
            "version": info.version,
            "problem": info.problem,
            "components": [
                {
                    "kind": KINDS[registered.hook],
                    "name": registered.component.name,
                    "summary": registered.component.summary,
                }
                for registered in plugins.components
                if registered.plugin == info.name
            ],
        }
        for info in plugins.infos
    ]
    if args.json:
        print(json.dumps(listed, indent=1))
        return 0
    for plugin in listed:
        version = f" {plugin['version']}" if plugin["version"] else ""
        print(f"{plugin['distribution'] or plugin['name']}{version}")
        if plugin["problem"]:
            print(f"  NOT LOADED: {plugin['problem']}")
        for component in plugin["components"]:
            print(f"  {component['kind']:15} {component['name']:28} {component['summary']}")
    return 0

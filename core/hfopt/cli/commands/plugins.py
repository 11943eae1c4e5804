"""`hfopt plugins`: what is installed, what it offers, and why something is not loaded."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from hfopt.cli.commands.common import add_json, add_plugin_files

if TYPE_CHECKING:
    from hfopt.discovery.plugins import RegisteredComponent

SUMMARY = "list the installed plugins and what they offer"


def add_arguments(parser: ArgumentParser) -> None:
    add_plugin_files(parser)
    add_json(parser, "the list")


def execute(args: Namespace) -> int:
    from hfopt.discovery.plugins import Plugins

    plugins = Plugins.discover(args.plugin_files)
    listed: list[dict[str, Any]] = [
        {key: getattr(info, key) for key in ("name", "distribution", "version", "problem", "notices")}
        | {"components": [_component(each) for each in plugins.components if each.plugin == info.name]}
        for info in plugins.infos
    ]
    if args.json:
        print(json.dumps(listed, indent=1))
        return 0
    for plugin in listed:
        print(" ".join(filter(None, (plugin["distribution"] or plugin["name"], plugin["version"]))))
        _print_faults(plugin, "  ")
        for component in plugin["components"]:
            print(f"  {component['kind']:15} {component['name']:28} {component['summary']}")
            _print_faults(component, "    ")
    return 0


def _component(registered: RegisteredComponent) -> dict[str, Any]:
    """A component, and whether it can be used: its module is light by contract, and is imported."""
    from hfopt.discovery.checks import framework_notices
    from hfopt.discovery.plugins import KINDS

    before = {*sys.modules}
    return {
        "kind": KINDS[registered.hook].name,
        "name": registered.component.name,
        "summary": registered.component.summary,
        "problem": registered.problem(),
        "notices": framework_notices(before),
    }


def _print_faults(listed: dict[str, Any], margin: str) -> None:
    if listed["problem"]:
        print(f"{margin}NOT LOADED: {listed['problem']}")
    for notice in listed["notices"]:
        print(f"{margin}note: {notice}")

"""Arguments that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def add_config(parser: ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a .json, .yaml or .toml file")


def add_plugin_files(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--plugin",
        dest="plugin_files",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a Python file with hooks, besides the installed plugins",
    )


def add_cache_dir(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path(".hfopt-cache"),
        metavar="DIR",
        help="the folder of engine.cache_dir (.hfopt-cache)",
    )


def add_json(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON, and nothing else, on stdout")

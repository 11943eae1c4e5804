"""Arguments that several commands share, and how they print tables."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt.base.errors import UsageError
from hfopt.base.files import path_of
from hfopt.base.text import near

if TYPE_CHECKING:
    from hfopt.cache.journal import Journal


def add_config(parser: ArgumentParser) -> None:
    parser.add_argument("config", type=path_of, metavar="CONFIG", help="a .json, .yaml or .toml file")


def add_plugin_files(parser: ArgumentParser) -> None:
    about = "a Python file with hooks, in addition to the installed plugins"
    names = "-p", "--plugin"
    parser.add_argument(
        *names, dest="plugin_files", action="append", type=path_of, default=[], metavar="FILE", help=about
    )


def add_cache(parser: ArgumentParser, config: str = "config") -> None:
    """Which cache: a config's, or that of the current folder.

    :param config: the argument's name, or an option's where the arguments before it are any number
    """
    config_help = "use this config's engine.cache_dir (default: .hfopt-cache)"
    number: dict[str, Any] = {} if config.startswith("--") else {"nargs": "?"}
    parser.add_argument(config, type=path_of, metavar="CONFIG", help=config_help, **number)
    parser.add_argument("--cache-dir", type=path_of, metavar="DIR", help="use this cache instead of a config's")


def cache_of(args: Namespace) -> Path:
    """The folder of the cache that `add_cache` names, whether or not it is there."""
    from hfopt.config.document import read
    from hfopt.config.schema import Engine

    written = {} if args.config is None or args.cache_dir else read(args.config).value
    with suppress(LookupError, TypeError):  # whatever else is wrong with the config does not matter here
        return Path(args.cache_dir or written["engine"]["cache_dir"])
    return Path(Engine.model_fields["cache_dir"].default)


def journal_of(args: Namespace) -> Journal:
    """The journal of the cache that `add_cache` names.

    :raises UsageError: there is none
    """
    from hfopt.cache.journal import Journal
    from hfopt.cache.store import ArtifactStore

    folder = cache_of(args)
    if not (folder / "artifacts").is_dir() and not (folder / "format").exists():
        raise UsageError(f"{folder}: no cache here", hint="name a config, or the folder itself with --cache-dir")
    if (aside := ArtifactStore(folder).set_aside_older()) is not None:
        print(f"note: the cache was of another release of hfopt: it is set aside in {near(aside)}", file=sys.stderr)
    return Journal(folder, lambda text: print(f"note: {text}", file=sys.stderr))


def add_json(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON on stdout, and nothing else")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns, however wide. A heading that begins with ``>`` aligns its column to the right."""
    table = [[heading.removeprefix(">") for heading in headings], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = zip(row, widths, headings, strict=True)
        print("  ".join(f"{cell:{'>' if of[:1] == '>' else '<'}{width}}" for cell, width, of in cells).rstrip())

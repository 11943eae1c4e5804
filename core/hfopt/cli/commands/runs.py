"""`hfopt runs`: which runs have used a cache."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt.base import text as wording
from hfopt.base.errors import ExitCode
from hfopt.cli.commands.common import add_cache, add_json, journal_of, print_table

if TYPE_CHECKING:
    from hfopt.cache.journal import Run

SUMMARY = "list the runs that used a cache, latest first"


def add_arguments(parser: ArgumentParser) -> None:
    add_cache(parser)
    parser.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="how many runs to list at most (default: 20)"
    )
    add_json(parser, "the list")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def execute(args: Namespace) -> int:
    journal = journal_of(args)
    runs = journal.runs(args.limit)
    if args.json:
        print(json.dumps([run._asdict() for run in runs], indent=1))
    elif runs:
        headings = (">run", "started", "status", ">took", ">made", ">cached", ">failed", "config", "output")
        print_table(headings, [_row(run) for run in runs])
    elif journal.usable:
        print("no runs yet")
    return ExitCode.DONE if journal.usable else ExitCode.NO_RESULT


def _row(run: Run) -> tuple[str, ...]:
    at = datetime.fromisoformat
    took = "" if run.ended is None else wording.duration((at(run.ended) - at(run.started)).total_seconds())
    config = "(Python)" if run.config is None else wording.near(Path(run.config))
    counts = (str(run.made), str(run.cached), str(run.failed))
    return str(run.id), wording.age(run.started), run.status, took, *counts, config, wording.near(Path(run.output_dir))

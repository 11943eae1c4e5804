"""`hfopt runs`: what has been run on a cache."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser, Namespace

from hfopt.commands.common import add_cache_dir, add_json

SUMMARY = "list the runs on a cache, the latest first"


def add_arguments(parser: ArgumentParser) -> None:
    add_cache_dir(parser)
    parser.add_argument("--limit", type=int, default=20, help="at most so many (20)")
    add_json(parser, "the list")


def execute(args: Namespace) -> int:
    from hfopt.journal import Journal
    from hfopt.upkeep import store_of

    store_of(args.cache_dir)
    runs = Journal(args.cache_dir).runs(args.limit)
    if args.json:
        print(json.dumps([dataclasses.asdict(run) for run in runs], indent=1))
        return 0
    print(f"{'run':>4}  {'started':25}  {'status':11}  {'made':>4}  {'cached':>6}  {'failed':>6}  config -> output")
    for run in runs:
        counts = f"{run.made:4}  {run.cached:6}  {run.failed:6}"
        print(
            f"{run.id:4}  {run.started:25}  {run.status:11}  {counts}  {run.config or '(Python)'} -> {run.output_dir}"
        )
    return 0

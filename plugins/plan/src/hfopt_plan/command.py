"""``hfopt plan``: prints what `hfopt_plan.ahead` has found."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from hfopt import Command, HfoptError
from hfopt.api.files import path_of
from hfopt.api.text import size
from hfopt_plan.ahead import Made, Outlook, look_ahead, surely_too_large

MOST_SHOWN = 20
"""Candidates of a search that are printed; --json has more."""
_CACHED = {True: "in the cache", False: "to do", None: "cached: unknown"}


class PlanCommand(Command):
    """Reads the config and the headers of the model's files; runs, fetches and writes nothing."""

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("config", type=path_of, metavar="CONFIG", help="a .json, .yaml or .toml file")
        parser.add_argument(
            "-p",
            "--plugin",
            dest="plugin_files",
            action="append",
            type=path_of,
            default=[],
            metavar="FILE",
            help="a Python file with hooks, in addition to the installed plugins",
        )
        parser.add_argument("--json", action="store_true", help="print the plan as JSON on stdout, and nothing else")

    @classmethod
    def execute(cls, args: Namespace) -> int:
        outlook = look_ahead(args.config, args.plugin_files)
        if args.json:
            print(json.dumps(outlook.as_json(), indent=1))
        else:
            print(*lines(outlook), sep="\n")
        if surely_too_large(outlook):
            fact = f"the models of this run don't fit on the disk: {size(outlook.free_bytes)} are free"
            raise HfoptError(fact, hint="free some, or name another disk's folder in engine.cache_dir")
        return 0


def lines(outlook: Outlook) -> Iterator[str]:
    """The plan for people."""
    yield from (f"note: {each}" for each in outlook.notices)
    width = max(len(step["name"]) for step in outlook.steps) if outlook.steps else 0
    for step in outlook.steps:
        yield f"  {step['name']:{width}}  {_CACHED[step['cached']]:15}  {step['system']}"
    yield f"input model: {_told(outlook.input_model)}"
    for number, (choices, made) in enumerate(outlook.candidates[:MOST_SHOWN], 1):
        if choices:
            chosen = (f"{place.removeprefix('passes.')}={value}" for place, value in choices.items())
            yield f"candidate {number}: {', '.join(chosen)}"
        yield from (f"  {each.name} ({each.kind}): {_told(each)}, on {each.system}" for each in made)
    if len(outlook.candidates) > MOST_SHOWN:
        yield f"and {len(outlook.candidates) - MOST_SHOWN} more candidates"
    if any(choices for choices, _ in outlook.candidates):
        yield f"at most {outlook.tried} of them are tried on each accelerator"
    needed = "not known" if outlook.needed_bytes is None else f"up to {size(outlook.needed_bytes)}"
    yield f"disk: {needed}, {size(outlook.free_bytes)} free"
    yield from (f"warning: {each}" for each in outlook.warnings)


def _told(made: Made) -> str:
    if made.size_bytes is None or made.peak_bytes is None:
        return "size and memory not known"
    return f"about {size(made.size_bytes)}, {size(made.peak_bytes)} of memory"

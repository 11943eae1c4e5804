"""`hfopt cache`: what a cache holds, why a step ran again, whether files have changed, and making room."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hfopt.base import text as wording
from hfopt.cli.commands.common import add_cache, add_json, journal_of, print_table

if TYPE_CHECKING:
    from hfopt.cache.maintenance import Comparison, Entry

SUMMARY = "look into a cache, check it, or make room in it"


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add(
        name: str, action: Callable[[Namespace], int], summary: str, *, key: bool = False, as_json: bool = False
    ) -> ArgumentParser:
        added = actions.add_parser(name, help=summary)
        added.set_defaults(action=action)
        if key:
            added.add_argument("key", metavar="KEY", help="a key, the beginning of one, or the name of a step")
        add_cache(added)
        if as_json:
            add_json(added, "it")
        return added

    add("ls", _ls, "list artifacts, most recently used first", as_json=True)
    add("explain", _explain, "show what an artifact was made from, and why its step ran again", key=True, as_json=True)
    add("rm", _rm, "remove an artifact, so that its step runs again", key=True)
    verify = add("verify", _verify, "check that no file has changed since it was written; exit code 1 if any has")
    verify.add_argument("--remove", action="store_true", help="remove damaged artifacts: the next run makes them again")
    prune = add("prune", _prune, "remove the least recently used artifacts")
    prune.add_argument("--max-size", type=parse_size, required=True, metavar="SIZE", help="what to keep: 500M, 20G...")


def execute(args: Namespace) -> int:
    return int(args.action(args))


def parse_size(text: str) -> int:
    """``500M`` as 500,000,000 bytes."""
    from pydantic import ByteSize, TypeAdapter

    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a size such as 500M or 20G") from error


def _ls(args: Namespace) -> int:
    from hfopt.cache.maintenance import entries

    found = entries(journal_of(args))
    if args.json:
        print(json.dumps([_as_json(entry) for entry in found], indent=1))
        return 0
    headings = ("key", ">size", ">made in", ">used", ">by run", "step", "component")
    print_table(headings, [_row(entry) for entry in found])
    print(_counted(found))
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    size, took = wording.size(entry.size), wording.duration(entry.manifest.seconds)
    run = "" if entry.use is None else str(entry.use.run)
    return entry.key[:12], size, took, wording.age(entry.used), run, entry.name, entry.manifest.component


def _as_json(entry: Entry) -> dict[str, Any]:
    run = None if entry.use is None else entry.use.run
    manifest = entry.manifest.model_dump(mode="json")
    return {**manifest, "used": entry.used, "run": run, "step": entry.name, "size": entry.size}


def _count(number: int) -> str:
    return f"{number} artifact{'' if number == 1 else 's'}"


def _counted(entries: Sequence[Entry]) -> str:
    return f"{_count(len(entries))}, {wording.size(sum(entry.size for entry in entries))}"


def _explain(args: Namespace) -> int:
    from hfopt.cache.maintenance import compare, entries, find

    journal = journal_of(args)
    there = entries(journal)
    entry = find(there, args.key)
    compared = compare(journal, entry, there)
    if args.json:
        other = None if compared is None else dataclasses.asdict(compared)
        print(json.dumps({**_as_json(entry), "compared": other}, indent=1))
        return 0
    for line in [*_described(entry, there), *_compared(compared)]:
        print(line)
    return 0


def _described(entry: Entry, there: list[Entry]) -> list[str]:
    manifest = entry.manifest
    names = {each.key: each.name for each in there}
    inputs = [f"{names.get(key, role)} ({key[:12]})" for role, key in manifest.inputs.items()]
    options = {name: value for name, value in manifest.config.items() if value is not None}
    by = "" if entry.use is None else f" by run {entry.use.run}"
    return [
        f"{entry.name}: {manifest.component}, {wording.size(entry.size)}",
        f"  key      {entry.key}",
        f"  made     {wording.age(manifest.created)} ({manifest.created}), in {wording.duration(manifest.seconds)}",
        f"  used     {wording.age(entry.used)}{by}",
        *([f"  from     {', '.join(inputs)}"] if inputs else []),
        *([f"  options  {json.dumps(options, ensure_ascii=False)}"] if options else []),
        f"  folder   {wording.near(entry.folder)}",
    ]


def _compared(compared: Comparison | None) -> list[str]:
    if compared is None:
        return ["there is no earlier one in this cache"]
    since = f"run {compared.run}" if compared.run is not None else "the most similar earlier one"
    return [
        f"it was made again because of what changed since {since} ({compared.key[:12]}):",
        *(f"  {line}" for line in compared.reasons),
    ]


def _rm(args: Namespace) -> int:
    from hfopt.cache.maintenance import entries, find, remove

    journal = journal_of(args)
    entry = find(entries(journal), args.key)
    remove(journal.cache, [entry.folder])
    print(f"removed {entry.name} ({entry.key[:12]}), {wording.size(entry.size)}")
    return 0


def _verify(args: Namespace) -> int:
    from hfopt.cache.maintenance import damaged, remove

    journal = journal_of(args)
    checked, bad = 0, []
    for folder, faults in damaged(journal.cache):
        checked += 1
        for fault in faults:
            print(f"{folder.name[:12]}: {fault}")
        bad += [folder] if faults else []
    if args.remove and bad:
        remove(journal.cache, bad)
    removed = ", removed" if args.remove and bad else ""
    print(f"{_count(checked)}: {f'{len(bad)} damaged{removed}' if bad else 'all intact'}")
    return 1 if bad and not args.remove else 0


def _prune(args: Namespace) -> int:
    from hfopt.cache.maintenance import prune

    removed, kept = prune(journal_of(args), args.max_size)
    print(f"removed {_counted(removed)}; kept {_counted(kept)}")
    return 0

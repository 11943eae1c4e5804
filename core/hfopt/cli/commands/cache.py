"""`hfopt cache`: what a cache holds, why a step ran again, whether files have changed, making room, and moving."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt.base import text as wording
from hfopt.base.errors import HfoptError
from hfopt.base.files import path_of
from hfopt.cli.commands.common import add_cache, add_json, cache_of, journal_of, print_table

if TYPE_CHECKING:
    from hfopt.cache.maintenance import Entry
    from hfopt.cache.store import ArtifactStore

SUMMARY = "look into a cache, check it, make room in it, or carry artifacts to another"
_KEY = {"metavar": "KEY", "help": "a key, the beginning of one, or the name of a step"}


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, action: Callable[[Namespace], int | None], summary: str, **what: Any) -> ArgumentParser:
        """Add an action, which acts on something if `what` describes that argument."""
        added = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        added.set_defaults(action=action)
        if what:
            added.add_argument("what", **what)
        add_cache(added, "--config" if "nargs" in what else "config")
        return added

    add_json(add("ls", _ls, "list artifacts, most recently used first"), "it")
    explain = "show what an artifact was made from, and why its step ran again"
    add_json(add("explain", _explain, explain, **_KEY), "it")
    add("rm", _rm, "remove an artifact, so that its step runs again", **_KEY)
    verify = add("verify", _verify, "check that no file has changed since it was written; exit code 1 if any has")
    verify.add_argument("--remove", action="store_true", help="remove damaged artifacts: the next run makes them again")
    prune = add("prune", _prune, "remove the least recently used artifacts")
    prune.add_argument("--max-size", type=parse_size, required=True, metavar="SIZE", help="what to keep: 500M, 20G...")
    export = add("export", _export, "copy artifacts, and those that they use, into a folder", **_KEY, nargs="+")
    export.add_argument("--to", type=path_of, required=True, metavar="DIR", help="the folder, new or not")
    folder = {"type": path_of, "metavar": "DIR", "help": "a folder that hfopt cache export has filled"}
    add("adopt", _adopt, "take in exported artifacts: runs use them like their own", **folder)


def execute(args: Namespace) -> int:
    return args.action(args) or 0


def parse_size(text: str) -> int:
    """``500M`` as 500,000,000 bytes."""
    from pydantic import ByteSize, TypeAdapter

    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a size such as 500M or 20G") from error


def _ls(args: Namespace) -> None:
    from hfopt.cache.maintenance import entries

    found = entries(journal_of(args))
    if args.json:
        print(json.dumps([_as_json(entry) for entry in found], indent=1))
    else:
        headings = ("key", ">size", ">made in", ">used", ">by run", "step", "component")
        print_table(headings, [_row(entry) for entry in found])
        print(_counted(found))


def _row(entry: Entry) -> tuple[str, ...]:
    size, took = wording.size(entry.size), wording.duration(entry.manifest.seconds)
    run = str(entry.use.run or "")
    return entry.key[:12], size, took, wording.age(entry.used), run, entry.name, entry.manifest.component


def _as_json(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest.model_dump(mode="json")
    return {**manifest, "used": entry.used, "run": entry.use.run, "step": entry.name, "size": entry.size}


def _count(number: int) -> str:
    return f"{number} artifact{'' if number == 1 else 's'}"


def _counted(entries: Sequence[Entry]) -> str:
    return f"{_count(len(entries))}, {wording.size(sum(entry.size for entry in entries))}"


def _explain(args: Namespace) -> None:
    from hfopt.cache.maintenance import entries, find
    from hfopt.cache.reasons import compare

    journal = journal_of(args)
    there = entries(journal)
    entry = find(there, args.what)
    compared = compare(journal, entry, there)
    if args.json:
        print(json.dumps({**_as_json(entry), "compared": compared and compared._asdict()}, indent=1))
        return
    print(*_described(entry, there), sep="\n")
    if compared is None:
        print("there is no earlier one in this cache")
    else:
        since = "the most similar earlier one" if compared.run is None else f"run {compared.run}"
        print(f"it was made again because of what changed since {since} ({compared.key[:12]}):")
        print(*(f"  {reason}" for reason in compared.reasons), sep="\n")


def _described(entry: Entry, there: list[Entry]) -> list[str]:
    manifest = entry.manifest
    names = {each.key: each.name for each in there}
    inputs = [f"{names.get(key, role)} ({key[:12]})" for role, key in manifest.inputs.items()]
    options = {name: value for name, value in manifest.config.items() if value is not None}
    lines = {
        "key": entry.key,
        "made": f"{wording.age(manifest.created)} ({manifest.created}), in {wording.duration(manifest.seconds)}",
        "used": wording.age(entry.used) + (f" by run {entry.use.run}" if entry.use.run else ""),
        "from": ", ".join(inputs),
        "options": json.dumps(options, ensure_ascii=False) if options else "",
        "folder": wording.near(entry.folder),
    }
    head = f"{entry.name}: {manifest.component}, {wording.size(entry.size)}"
    return [head, *(f"  {what:8} {text}" for what, text in lines.items() if text)]


def _rm(args: Namespace) -> None:
    from hfopt.cache.maintenance import entries, find, remove

    journal = journal_of(args)
    entry = find(entries(journal), args.what)
    remove(journal.cache, [entry.folder])
    print(f"removed {entry.name} ({entry.key[:12]}), {wording.size(entry.size)}")


def _verify(args: Namespace) -> int:
    from hfopt.base.inside import folders_inside
    from hfopt.cache.digests import digest_file
    from hfopt.cache.maintenance import remove
    from hfopt.cache.manifest import examine

    cache = journal_of(args).cache
    folders, bad = list(folders_inside(cache, "artifacts", depth=2)), []
    for folder in folders:
        if found := examine(folder, folder.name, digest_file)[1]:
            bad.append(folder)
            print(*(f"{folder.name[:12]}: {fault}" for fault in found), sep="\n")
    if args.remove and bad:
        remove(cache, bad)
    removed = ", removed" if args.remove else ""
    print(f"{_count(len(folders))}: {f'{len(bad)} damaged{removed}' if bad else 'all intact'}")
    return 1 if bad and not args.remove else 0


def _prune(args: Namespace) -> None:
    from hfopt.cache.maintenance import prune

    removed, kept = prune(journal_of(args), args.max_size)
    print(f"removed {_counted(removed)}; kept {_counted(kept)}")


def _export(args: Namespace) -> None:
    from hfopt.cache.maintenance import entries, find

    journal = journal_of(args)
    there = entries(journal)
    keys = [find(there, key).key for key in args.what]
    with _using(journal.cache, args.to) as store:
        exported = store.export(keys, args.to)
    print(f"exported {_counted([entry for entry in there if entry.key in exported])}")


def _adopt(args: Namespace) -> None:
    with _using(cache_of(args), args.what) as store:
        adopted = store.adopt(args.what)
    print(f"adopted {_count(len(adopted))}")


@contextmanager
def _using(cache: Path, folder: Path) -> Iterator[ArtifactStore]:
    """The store of a cache, kept from being pruned, while artifacts are copied from or to a folder.

    :raises HfoptError: they can't be copied
    """
    from hfopt.cache.locks import using_cache
    from hfopt.cache.store import ArtifactStore

    try:
        with using_cache(cache):
            yield ArtifactStore(cache)
    except OSError as error:
        raise HfoptError(f"{folder}: {error.strerror or error}") from error

"""`hfopt cache`: what a cache holds, why a step ran again, whether it is sound, and making room."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from hfopt.commands.common import add_cache_dir, add_json

SUMMARY = "look into a cache, check it, or make room in it"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="list artifacts, most recently used first")
    ls.set_defaults(action=_ls)
    explain = actions.add_parser(
        "explain", help="what an artifact was made of, and how that differs from the nearest other"
    )
    explain.add_argument("key", metavar="KEY", help="a key, or its beginning")
    explain.set_defaults(action=_explain)
    verify = actions.add_parser(
        "verify", help="compare every file's bytes with what was written; exit code 1 if any differ"
    )
    verify.add_argument("--remove", action="store_true", help="remove damaged artifacts: the next run makes them anew")
    verify.set_defaults(action=_verify)
    prune = actions.add_parser("prune", help="remove what was used longest ago")
    prune.add_argument("--max-size", type=parse_size, required=True, metavar="SIZE", help="of what stays: 500M, 20G...")
    prune.set_defaults(action=_prune)
    for action in (ls, explain, verify, prune):
        add_cache_dir(action)
    for action in (ls, explain):
        add_json(action, "it")


def execute(args: Namespace) -> int:
    from hfopt.upkeep import store_of

    store_of(args.cache_dir)
    return int(args.action(args))


def parse_size(text: str) -> int:
    """``500M`` as 500,000,000 bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a size such as 500M or 20G")
    return int(float(match[1]) * _UNITS[match[2]])


def _ls(args: Namespace) -> int:
    from hfopt.upkeep import entries

    found = entries(args.cache_dir)
    if args.json:
        print(
            json.dumps(
                [{**e.manifest.model_dump(mode="json"), "used": e.used, "size": e.size} for e in found], indent=1
            )
        )
        return 0
    for entry in found:
        manifest = entry.manifest
        size = f"{entry.size / 1e6:10.1f} MB"
        print(f"{manifest.key[:12]}  {size}  {entry.used[:19]}  {manifest.kind:9} {manifest.component}")
    print(f"{len(found)} artifacts, {sum(entry.size for entry in found) / 1e6:.1f} MB")
    return 0


def _explain(args: Namespace) -> int:
    from hfopt.upkeep import differences, entries, find

    entry = find(args.cache_dir, args.key)
    nearest = differences(entry, entries(args.cache_dir))
    if args.json:
        compared = None if nearest is None else {"key": nearest[0].manifest.key, "differences": nearest[1]}
        print(json.dumps({**entry.manifest.model_dump(mode="json"), "nearest": compared}, indent=1))
        return 0
    manifest = entry.manifest
    print(f"{manifest.key}\n{manifest.kind} {manifest.component}, made {manifest.created} in {manifest.seconds:.1f} s")
    print(f"lies in {entry.folder}")
    print(json.dumps(manifest.recipe, indent=1))
    if nearest is None:
        print("there is no other artifact of this component")
        return 0
    other, changes = nearest
    print(f"the nearest other is {other.manifest.key[:12]}, made {other.manifest.created}; it differs in:")
    for path, (own, its) in changes.items():
        print(f"  {path}: {json.dumps(own)} here, {json.dumps(its)} there")
    return 0


def _verify(args: Namespace) -> int:
    import shutil

    from hfopt.upkeep import damaged

    found = list(damaged(args.cache_dir))
    for folder, fault in found:
        print(f"{folder.name[:12]}: {fault}")
        if args.remove:
            shutil.rmtree(folder, ignore_errors=True)
    removed = ", removed" if args.remove and found else ""
    print(f"{len(found)} damaged{removed}" if found else "every artifact is as it was written")
    return 1 if found and not args.remove else 0


def _prune(args: Namespace) -> int:
    from hfopt.upkeep import prune

    count, size = prune(args.cache_dir, args.max_size)
    print(f"removed {count} artifacts, {size / 1e6:.1f} MB")
    return 0

"""`hfopt worker`: what systems start; not for people."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from hfopt.base.files import path_of
from hfopt.cli.commands.common import add_plugin_files

SUMMARY = "execute steps from stdin (started by systems)"


def add_arguments(parser: ArgumentParser) -> None:
    add_plugin_files(parser)
    parser.add_argument("--offline", action="store_true", help="make no network requests")
    parser.add_argument("--store", type=path_of, required=True, metavar="DIR", help="the artifact store")
    parser.add_argument("--made", type=path_of, metavar="DIR", help="for artifacts, where the store can only be read")


def execute(args: Namespace) -> int:
    from hfopt.worker.serve import serve

    serve(args.store, args.plugin_files, offline=args.offline, made=args.made)
    return 0

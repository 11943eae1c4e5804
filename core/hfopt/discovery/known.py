"""Which distribution offers what: for messages about plugins that are not installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple


class Home(NamedTuple):
    """Where a component comes from.

    :param install: what a user types to get it
    """

    distribution: str
    install: str


@cache
def known(hook: str) -> dict[str, Home]:
    """The components of one kind that distributions of hfopt's own offer, by name.

    ``known.toml`` has them; it is written by `make known`, and a test compares it with what they declare.
    """
    import tomllib

    table = tomllib.loads(Path(__file__).with_name("known.toml").read_text("utf-8"))
    return {
        name: Home(distribution, entry["install"])
        for distribution, entry in table.items()
        for name in entry.get(hook, ())
    }

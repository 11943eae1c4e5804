"""Which installed versions a component's result depends on: its own distribution and all that it requires.

Reads metadata only. An editable distribution counts by the digest of its source, everything else by its version.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_SKIPPED = {"__pycache__", ".git", ".venv", "tests"}


def fingerprint(distribution: str | None) -> dict[str, str]:
    """Versions (or source digests) of a distribution, of the installed closure of what it requires, and of Python.

    All extras of the distribution itself are followed. Other installed packages don't count, so that an unrelated
    ``pip install`` changes nothing.

    :param distribution: None stands for the core alone
    :return: normalised name to version, in order of name
    """
    found: dict[str, str] = {"python": ".".join(map(str, sys.version_info[:3]))}
    root = distribution or "hfopt"
    seen: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(root, _extras(root))]
    while waiting:
        name, extras = waiting.pop()
        done = seen.setdefault(name, set())
        if name in found and extras <= done:
            continue
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = _version(installed)
        done |= extras
        waiting += [(canonicalize_name(need.name), frozenset(need.extras)) for need in _needs(installed, extras)]
    return dict(sorted(found.items()))


def _extras(distribution: str) -> frozenset[str]:
    try:
        return frozenset(metadata.metadata(distribution).get_all("Provides-Extra") or ())
    except metadata.PackageNotFoundError:
        return frozenset()


def _needs(installed: metadata.Distribution, extras: frozenset[str]) -> Iterable[Requirement]:
    environment = {key: str(value) for key, value in default_environment().items()}
    for line in installed.requires or ():
        if "extra" in line and not any(extra in line for extra in extras):
            continue
        try:
            need = Requirement(line)
        except InvalidRequirement:
            continue
        if need.marker is None or any(need.marker.evaluate(environment | {"extra": extra}) for extra in ("", *extras)):
            yield need


def _version(installed: metadata.Distribution) -> str:
    roots = editable_roots(installed)
    return f"source:{digest_sources(roots)}" if roots else installed.version


def editable_roots(installed: metadata.Distribution) -> list[Path]:
    """The folders that an editable install puts on the path; empty for an ordinary install."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return []
    added = [line for file in installed.files or () if file.suffix == ".pth" for line in file.read_text().splitlines()]
    roots = [Path(line) for line in added if line and not line.startswith("import ")]
    return roots or [Path(origin["url"].removeprefix("file://"))]


def digest_sources(roots: Iterable[Path]) -> str:
    """One digest for the names and bytes of all files below some folders, compiled ones and tests aside."""
    digest = sha256()
    for root in roots:
        for file in sorted(root.rglob("*")):
            inside = file.relative_to(root)
            if _SKIPPED.isdisjoint(inside.parts) and not inside.parts[0].startswith(".") and file.is_file():
                digest.update(f"{inside.as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

"""Which versions a component's result depends on: of its own code, and of all that this requires.

Reads metadata and sources and imports nothing. A distribution counts by its version; an editable one by the digest of
its sources, and one whose code may differ under the same version by its files' hashes as well.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from hfopt.base.component import PROJECT
from hfopt.discovery.sources import GROUP

if TYPE_CHECKING:
    from hfopt.discovery.plugins import RegisteredComponent

AS_AT_HOME = "hfopt-version"
"""In a bundled distribution's metadata: what it counts as where it was bundled."""
_SKIPPED = {"__pycache__", ".git", ".venv", "tests"}
_PARSING = Lock()
"""CPython 3.11 fails now and then where several threads parse at once (its issue 106905)."""


class Environment:
    """What is installed. Each distribution is read once: ask a new one when something may have changed."""

    def __init__(self) -> None:
        self.version = cache(_version)
        self.needs = cache(_needs)

    def versions_of(self, registered: RegisteredComponent) -> dict[str, str]:
        """What a component's result depends on."""
        source = registered.source
        return self.fingerprint(registered.distribution) if source is None else self.file_fingerprint(source)

    def fingerprint(self, distribution: str | None) -> dict[str, str]:
        """Versions of a distribution, of the installed closure of what it requires, and of Python.

        All extras of the distribution itself are followed. Other installed packages don't count, so that an unrelated
        ``pip install`` changes nothing.

        :param distribution: None stands for the core alone
        :return: normalised name to version, or to a digest, in order of name
        """
        root = distribution or PROJECT
        with suppress(metadata.PackageNotFoundError):
            return self._closure([(root, frozenset(metadata.metadata(root).get_all("Provides-Extra") or ()))])
        return self._closure([])

    def file_fingerprint(self, file: Path) -> dict[str, str]:
        """What a ``-p`` file's components depend on: the file, and what it and its local modules import anywhere.

        A module that is neither Python's own nor an installed distribution's is local. Of a local package all of its
        files count. What is imported by a name that is put together at run time is not seen.

        :return: as `fingerprint` of the core and of every imported distribution, and ``module:<name>`` to a digest
        """
        local, installed = local_modules(file)
        versions = self._closure((name, frozenset()) for name in (PROJECT, *installed))
        return versions | {f"module:{name}": digest_sources([place]) for name, place in sorted(local.items())}

    def _closure(self, roots: Iterable[tuple[str, frozenset[str]]]) -> dict[str, str]:
        """Versions of distributions, each with some extras, and of what they require as far as that is installed."""
        found = {"python": ".".join(map(str, sys.version_info[:3]))}
        queue = [(canonicalize_name(name), extras) for name, extras in roots]
        for name, extras in queue:  # which grows meanwhile
            with suppress(metadata.PackageNotFoundError):
                found[name] = self.version(name)
                queue += self.needs(name, extras).difference(queue)
        return dict(sorted(found.items()))


def local_modules(file: Path) -> tuple[dict[str, Path], set[str]]:
    """What a ``-p`` file and its local modules import: local modules, itself among them, and installed distributions.

    :return: file or folder by the module's name, and the distributions' names
    """
    offers = cache(metadata.packages_distributions)  # reads every distribution there is
    local: dict[str, Path] = {file.stem: file}
    installed: set[str] = set()
    queue = [file]
    for place in queue:  # which grows meanwhile
        imported = {name for source in source_files(place) if source.suffix == ".py" for name in _imports(source)}
        for name in imported - local.keys() - sys.stdlib_module_names:
            if homes := _distributions_of(name, offers):
                installed.update(homes)
            elif (found := _find(name, file.parent)) is not None:
                local[name] = found
                queue.append(found)
    return local, installed


def _needs(name: str, extras: frozenset[str]) -> frozenset[tuple[NormalizedName, frozenset[str]]]:
    """What a distribution requires with some extras, each with its own extras."""
    found = set()
    for line in metadata.distribution(name).requires or ():
        if "extra" not in line or any(extra in line for extra in extras):  # the others need no parsing
            with suppress(InvalidRequirement):
                need = Requirement(line)
                if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                    found.add((canonicalize_name(need.name), frozenset(need.extras)))
    return frozenset(found)


def _version(name: str) -> str:
    installed = metadata.distribution(name)
    if (at_home := installed.read_text(AS_AT_HOME)) is not None:
        return at_home
    if roots := editable_roots(installed):
        return f"source:{digest_sources(roots)}"
    may_differ = (
        name == PROJECT
        or installed.read_text("direct_url.json") is not None  # it was installed from elsewhere than an index
        or installed.entry_points.select(group=GROUP)
    )
    version, code = installed.version, "\n".join(_recorded(installed)) if may_differ else ""
    return f"{version}+{sha256(code.encode()).hexdigest()[:16]}" if code else version


def _recorded(installed: metadata.Distribution) -> list[str]:
    """The lines of RECORD, path and hash, of what is imported: not of scripts, nor of what installers write."""
    apart = re.compile(r"(\.\.)?/|.*(\.dist-info|__pycache__)/")
    return [line for line in sorted((installed.read_text("RECORD") or "").splitlines()) if not apart.match(line)]


def editable_roots(installed: metadata.Distribution) -> list[Path]:
    """The folders that an editable install puts on the path; empty for an ordinary install."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return []
    added = [line for file in installed.files or () if file.suffix == ".pth" for line in file.read_text().splitlines()]
    roots = [Path(line) for line in added if line and not line.startswith("import ")]
    return roots or [Path(unquote(urlsplit(origin["url"]).path))]


def digest_sources(roots: Iterable[Path]) -> str:
    """One digest for the names and bytes of files, and of all files below folders, compiled ones and tests aside."""
    digest = sha256()
    for root in roots:
        for file in source_files(root):
            digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def source_files(root: Path) -> Iterator[Path]:
    """A file, or all files below a folder in order, compiled ones, tests and hidden ones aside."""
    if root.is_file():
        yield root
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root).parts
        if _SKIPPED.isdisjoint(inside) and not inside[0].startswith(".") and file.is_file():
            yield file


def _imports(file: Path) -> Iterator[str]:
    """The top-level modules that a Python file imports, at its top or anywhere else."""
    with suppress(SyntaxError, ValueError):
        with _PARSING:
            parsed = ast.parse(file.read_bytes())
        for node in ast.walk(parsed):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def _distributions_of(module: str, offers: Callable[[], Mapping[str, list[str]]]) -> list[str]:
    """The installed distributions that a top-level module belongs to.

    :param offers: `importlib.metadata.packages_distributions`, asked where no distribution has the module's name
    """
    with suppress(metadata.PackageNotFoundError):
        installed = metadata.distribution(module)
        bundled = installed.read_text(AS_AT_HOME) is not None and Path(str(installed.locate_file(module))).exists()
        recorded = any(line.startswith((f"{module}/", f"{module}.py,")) for line in _recorded(installed))
        roots = editable_roots(installed)
        if bundled or recorded or any([*root.glob(module), *root.glob(f"{module}.py")] for root in roots):
            return [module]
    return offers().get(module, [])


def _find(module: str, beside: Path) -> Path | None:
    """A module's file or a package's folder, on the path, beside a file, or in the current folder."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module) or PathFinder.find_spec(module, [str(beside), ""])
        if spec is not None:
            places = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
            return Path(places[0]) if places and Path(places[0]).exists() else None
    return None

"""Where plugins come from: entry points of installed distributions, which stevedore loads, and ``-p`` files."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from hfopt.base.component import PROJECT
from hfopt.base.errors import PluginError, UsageError
from hfopt.base.text import printable
from hfopt.base.version import __version__
from hfopt.discovery.checks import attempt, framework_notices

GROUP = "hfopt.plugins"


@dataclass(frozen=True)
class PluginInfo:
    """A plugin, and whether it is loaded.

    :param name: its entry point's, or the ``-p`` file's
    :param distribution: None for a ``-p`` file
    :param source: the ``-p`` file
    :param problem: why it is not loaded
    :param notices: what its author should know
    :param hooks: its module, if that could be imported
    """

    name: str
    distribution: str | None = None
    version: str | None = None
    source: Path | None = None
    problem: str | None = None
    notices: tuple[str, ...] = ()
    hooks: object = None


@dataclass(frozen=True)
class LiveEntryPoint:
    """An entry point that loads as a `PluginInfo` whatever happens: a SystemExit at import would end all discovery."""

    name: str
    value: str
    dist: metadata.Distribution

    def load(self) -> PluginInfo:
        about = self.dist.metadata
        name, distribution, version = (printable(each or "") for each in (self.name, about["Name"], about["Version"]))
        return _imported(PluginInfo(name, distribution, version), self._hooks)

    def _hooks(self) -> ModuleType:
        _admit(self.dist.requires or [])
        return importlib.import_module(self.value)


def installed_plugins() -> list[PluginInfo]:
    """Every installed plugin, by name."""
    from stevedore import ExtensionManager

    class LiveManager(ExtensionManager[Any]):
        """Reads the metadata itself: stevedore's cache on disk is stale for two minutes and forgets distributions."""

        def list_entry_points(self) -> list[Any]:
            found = metadata.entry_points(group=GROUP)
            return [LiveEntryPoint(each.name, each.value, each.dist) for each in found if each.dist is not None]

    found: list[Any] = [extension.plugin for extension in LiveManager(GROUP)]
    return sorted(found, key=lambda info: (info.name, info.distribution or ""))


def plugin_file(file: Path) -> PluginInfo:
    """A ``-p`` file, imported under a name made of its content, so that an edited file is a new module.

    :raises UsageError: it doesn't exist, or is not a Python file
    """
    if not file.is_file():
        raise UsageError(f"-p {file}: no such file")
    name = f"hfopt_file_{file.stem}_{sha256(file.read_bytes()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"-p {file}: not a Python file")
    loader = spec.loader

    def load() -> ModuleType:
        if name not in sys.modules:
            sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                loader.exec_module(sys.modules[name])
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    return _imported(PluginInfo(printable(file.stem), source=file), load)


def _imported(info: PluginInfo, load: Callable[[], ModuleType]) -> PluginInfo:
    before = {*sys.modules}
    hooks, problem = attempt(load)
    return replace(info, hooks=hooks, problem=problem, notices=framework_notices(before))


def _admit(requires: list[str]) -> None:
    """Refuse a plugin for another core. Base versions are compared, so that pre-releases work.

    :raises PluginError: with both versions
    """
    from packaging.requirements import Requirement
    from packaging.version import Version

    base = Version(__version__).base_version
    for need in (Requirement(line) for line in requires if line.lower().startswith(PROJECT)):
        if need.name.lower() == PROJECT and not need.specifier.contains(base, prereleases=True):
            raise PluginError(f"made for hfopt {need.specifier}; this is hfopt {__version__}")

"""Which plugins there are and what they registered: stevedore finds them, pluggy checks and calls them.

Nothing here imports a component; `RegisteredComponent.load` does, when a config has named it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pluggy

from hfopt.api import hookspecs
from hfopt.base.component import PROJECT, Component
from hfopt.base.errors import PluginError, UsageError
from hfopt.base.text import did_you_mean
from hfopt.base.version import __version__
from hfopt.discovery.known import INSTALL, KNOWN

GROUP = "hfopt.plugins"

KINDS = {
    "hfopt_model_loaders": "model type",
    "hfopt_data_containers": "data container",
    "hfopt_metric_backends": "metric backend",
    "hfopt_passes": "pass",
    "hfopt_systems": "system",
    "hfopt_resources": "resource",
    "hfopt_packagers": "packager",
}
"""Declaring hooks, and what messages call that which they declare."""


@dataclass(frozen=True)
class RegisteredComponent:
    """A component and who offers it.

    :param hook: the declaring hook
    :param plugin: entry-point name, or a ``-p`` file's name
    :param distribution: None for a ``-p`` file
    :param source: the ``-p`` file
    """

    component: Component
    hook: str
    plugin: str
    distribution: str | None
    source: Path | None = None

    @property
    def full_name(self) -> str:
        return f"{self.plugin}:{self.component.name}"

    @property
    def digest(self) -> str | None:
        """Of a ``-p`` file's content."""
        return None if self.source is None else sha256(self.source.read_bytes()).hexdigest()

    def load(self) -> Any:
        """Import the component's class.

        :raises PluginError: its module can't be imported
        """
        module, _, attribute = self.component.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise PluginError(
                f"{KINDS[self.hook]} {self.component.name!r} of {self.plugin} can't be imported: {_reason(error)}"
            ) from error


@dataclass(frozen=True)
class PluginInfo:
    """One line of ``hfopt plugins``."""

    name: str
    distribution: str | None
    version: str | None
    problem: str | None = None


class Unresolved(Exception):
    """A component name that no loaded plugin answers to.

    :param message: the fact
    :param hint: near miss or install line
    :param missing: the name is known, its plugin is not installed or not loaded
    """

    def __init__(self, message: str, hint: str | None, *, missing: bool) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.missing = missing


class UnknownComponent(Unresolved):
    """A component name that nobody here has heard of.

    :param installed: the components of that kind
    """

    def __init__(self, hook: str, name: str, installed: str, more: str, hint: str | None) -> None:
        super().__init__(f"no {KINDS[hook]} named {name!r}; installed: {installed}{more}", hint, missing=False)
        self.hook = hook
        self.name = name
        self.installed = installed


class Plugins:
    """The plugins of this process."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.infos: list[PluginInfo] = []
        self.components: list[RegisteredComponent] = []
        self.files: tuple[Path, ...] = ()

    @classmethod
    def discover(cls, files: Sequence[Path] = ()) -> Plugins:
        """All installed plugins, core's own, and the given ``-p`` files.

        :raises UsageError: a file is missing or fails to import (an installed plugin that fails is only noted)
        """
        plugins = cls()
        plugins.files = tuple(files)
        from hfopt.discovery import builtin

        plugins.register(builtin, name=PROJECT, distribution=PROJECT, version=__version__)
        for entry, module, fault in _load_entry_points():
            if fault is not None:
                plugins.infos.append(PluginInfo(entry.name, entry.distribution, entry.version, fault))
            else:
                plugins.register(module, name=entry.name, distribution=entry.distribution, version=entry.version)
        for file in files:
            plugins.register(_import_file(file), name=file.stem, source=file)
            if (problem := plugins.infos[-1].problem) is not None:
                raise UsageError(f"{file}: {problem}")
        return plugins

    def register(
        self,
        module: ModuleType | object,
        *,
        name: str,
        distribution: str | None = None,
        version: str | None = None,
        source: Path | None = None,
    ) -> None:
        """Check a plugin's hooks and take what it declares; a plugin with a fault is noted and left out."""
        problem = None
        try:
            self.manager.register(module, name=name)
            self.manager.check_pending()
            self.components += self._declared(module, name, distribution, source)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is attributed and kept
            problem = _reason(error)
            if self.manager.get_plugin(name) is module:
                self.manager.unregister(name=name)
        self.infos.append(PluginInfo(name, distribution, version, problem))

    def _declared(
        self, module: ModuleType | object, name: str, distribution: str | None, source: Path | None
    ) -> list[RegisteredComponent]:
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
        offers = []
        for hook in KINDS:
            for components in self.manager.subset_hook_caller(hook, others)():
                offers += [RegisteredComponent(component, hook, name, distribution, source) for component in components]
        return offers

    def of_kind(self, hook: str) -> list[RegisteredComponent]:
        """Everything that one declaring hook yielded."""
        return [registered for registered in self.components if registered.hook == hook]

    def find(self, hook: str, name: str) -> RegisteredComponent:
        """The component of that name: ``Name``, or ``plugin:Name``; case does not matter.

        :raises Unresolved: no such component, or several
        """
        plugin, _, short = name.rpartition(":")
        wanted = short.casefold()
        found = [
            registered
            for registered in self.of_kind(hook)
            if registered.component.name.casefold() == wanted
            and plugin.casefold() in ("", registered.plugin.casefold())
        ]
        if len(found) == 1:
            return found[0]
        if found:
            names = " and ".join(repr(registered.full_name) for registered in found)
            raise Unresolved(
                f"{KINDS[hook]} {name!r} is offered by several plugins",
                f"write {names.replace(' and ', ' or ')}",
                missing=False,
            )
        raise self._unknown(hook, name, short)

    def _unknown(self, hook: str, name: str, short: str) -> Unresolved:
        kind = KINDS[hook]
        offered = sorted({registered.component.name for registered in self.of_kind(hook)})
        known = {known_name.casefold(): (known_name, home) for known_name, home in KNOWN[hook].items()}
        if short.casefold() in known:
            proper, distribution = known[short.casefold()]
            broken = [info for info in self.infos if info.distribution == distribution and info.problem]
            if broken:
                return Unresolved(
                    f"{kind} {proper!r} is not available: {distribution} is not loaded: {broken[0].problem}",
                    None,
                    missing=True,
                )
            return Unresolved(
                f"{kind} {proper!r} needs {distribution}, which is not installed", INSTALL[distribution], missing=True
            )
        not_loaded = "".join(
            f"\n  not loaded: {info.name} ({info.distribution} {info.version}): {info.problem}"
            for info in self.infos
            if info.problem
        )
        hint = did_you_mean(short, [*offered, *(known_name for known_name, _ in known.values())])
        return UnknownComponent(hook, name, ", ".join(offered) or "none", not_loaded, hint)

    def call_lifecycle(self, hook: str, warn: Callable[[str], None], **arguments: Any) -> None:
        """Call a lifecycle hook of each plugin in turn; one that raises is a warning."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            others = [p for p in self.manager.get_plugins() if p is not implementation.plugin]
            try:
                self.manager.subset_hook_caller(hook, others)(**arguments)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the run goes on
                warn(f"plugin {implementation.plugin_name}: {hook} failed: {_reason(error)}")


class PluginFault(Exception):
    """Why an installed plugin is not loaded."""


@dataclass(frozen=True)
class LiveEntryPoint:
    """An entry point that fails as stevedore expects: a SystemExit at import would end all discovery.

    Has the attributes of `importlib.metadata.EntryPoint` that stevedore reads.
    """

    name: str
    value: str
    group: str
    dist: metadata.Distribution | None

    @property
    def distribution(self) -> str | None:
        return None if self.dist is None else self.dist.metadata["Name"]

    @property
    def version(self) -> str | None:
        return None if self.dist is None else self.dist.version

    def load(self) -> ModuleType:
        """Import the plugin's hooks.

        :raises PluginFault: it is for another core, or fails to import
        """
        self._admit()
        try:
            return importlib.import_module(self.value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginFault(_reason(error)) from error

    def _admit(self) -> None:
        requires = self.dist.requires if self.dist is not None else None
        wanted = [line for line in requires or () if line.lower().startswith(PROJECT)]
        if not wanted:
            return
        from packaging.requirements import Requirement
        from packaging.version import Version

        base = Version(__version__).base_version
        for requirement in map(Requirement, wanted):
            if requirement.name.lower() == PROJECT and not requirement.specifier.contains(base, prereleases=True):
                raise PluginFault(f"made for hfopt {requirement.specifier}; this is hfopt {__version__}")


def _load_entry_points() -> list[tuple[LiveEntryPoint, ModuleType | None, str | None]]:
    """Every installed plugin with its hooks module, or with the reason why there is none; by name."""
    from stevedore import ExtensionManager

    class LiveManager(ExtensionManager[Any]):
        """Reads the metadata itself: stevedore's cache on disk is stale for two minutes and forgets distributions."""

        def list_entry_points(self) -> list[Any]:
            found = metadata.entry_points(group=self.namespace)
            return [LiveEntryPoint(point.name, point.value, point.group, point.dist) for point in found]

    loaded: list[tuple[Any, ModuleType | None, str | None]] = []
    manager = LiveManager(
        GROUP, on_load_failure_callback=lambda _, entry, error: loaded.append((entry, None, str(error)))
    )
    loaded += [(extension.entry_point, cast(ModuleType, extension.plugin), None) for extension in manager.extensions]
    return sorted(loaded, key=lambda item: (item[0].name, item[0].distribution or ""))


def _import_file(file: Path) -> ModuleType:
    """Import a ``-p`` file under a name made of its content, so that an edited file is a new module.

    :raises UsageError: it is missing or fails
    """
    if not file.is_file():
        raise UsageError(f"-p {file}: no such file")
    name = file_module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"-p {file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"-p {file}: {_reason(error)}") from error
    return module


def file_module_name(file: Path) -> str:
    """The module name of a ``-p`` file."""
    return f"hfopt_file_{file.stem}_{sha256(file.read_bytes()).hexdigest()[:12]}"


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, ImportError | PluginFault | PluginError) and text:
        return text[0]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def versions(infos: Iterable[PluginInfo]) -> Mapping[str, str]:
    """Distribution to version, of all plugins that are loaded."""
    return {info.distribution: info.version or "" for info in infos if info.distribution and not info.problem}

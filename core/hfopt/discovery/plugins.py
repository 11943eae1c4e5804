"""Which plugins there are and what they declare: pluggy checks and calls their hooks.

Nothing here imports a component; `RegisteredComponent.load` does, when a config has named it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import pluggy

from hfopt.api import hookspecs
from hfopt.base.component import PROJECT, Component
from hfopt.base.errors import HfoptError, PluginError, UsageError
from hfopt.base.text import did_you_mean
from hfopt.base.version import __version__
from hfopt.discovery import builtin, checks
from hfopt.discovery.known import known
from hfopt.discovery.sources import PluginInfo as PluginInfo
from hfopt.discovery.sources import installed_plugins, plugin_file


class Kind(NamedTuple):
    """What a declaring hook declares.

    :param name: what messages call it
    :param base: the class that each of them is a subclass of, ``"module:Class"``
    """

    name: str
    base: str

    def __str__(self) -> str:
        return self.name


KINDS = {
    "hfopt_model_loaders": Kind("model type", "hfopt.api.model:ModelLoader"),
    "hfopt_data_containers": Kind("data container", "hfopt.api.data:DataContainer"),
    "hfopt_metric_backends": Kind("metric backend", "hfopt.api.metrics:MetricBackend"),
    "hfopt_passes": Kind("pass", "hfopt.api.passes:Pass"),
    "hfopt_systems": Kind("system", "hfopt.api.systems:System"),
    "hfopt_resources": Kind("resource", "hfopt.api.resources:Resource"),
    "hfopt_config_sections": Kind("config section", "hfopt.api.config:ConfigSection"),
    "hfopt_config_dialects": Kind("config dialect", "hfopt.api.dialects:Dialect"),
    "hfopt_token_providers": Kind("token provider", "hfopt.api.resources:TokenProvider"),
    "hfopt_search_algorithms": Kind("search algorithm", "hfopt.api.search:SearchAlgorithm"),
    "hfopt_pass_choosers": Kind("pass chooser", "hfopt.api.choosing:PassChooser"),
    "hfopt_packagers": Kind("packager", "hfopt.api.packaging:Packager"),
    "hfopt_commands": Kind("command", "hfopt.api.commands:Command"),
}
"""By the hook that declares them."""


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

    def problem(self) -> str | None:
        """Every reason why the component can't be used; None if it can. Imports its class."""
        base = resolve_name(KINDS[self.hook].base)
        faults, problem = checks.attempt(lambda: checks.component_faults(resolve_name(self.component.target), base))
        return f"{self.component.target} {'; '.join(faults)}" if faults else problem

    def load(self) -> Any:
        """Import the component's class.

        :raises PluginError: it can't be used
        """
        if (problem := self.problem()) is not None:
            who = f"{KINDS[self.hook]} {self.component.name!r} of {self.plugin} ({self.distribution or self.source})"
            raise PluginError(f"{who} is NOT LOADED: {problem}")
        return resolve_name(self.component.target)


class Unresolved(UsageError):
    """A name that no component has, or more than one."""


class UnknownComponent(Unresolved):
    """A name that no component has, and no distribution of hfopt's own offers.

    :param installed: the components of that kind
    :param not_loaded: plugins that might have it
    """

    def __init__(self, hook: str, name: str, installed: str, not_loaded: list[PluginInfo], hint: str | None) -> None:
        message = f"no {KINDS[hook]} named {name!r}; installed: {installed}"
        for info in not_loaded:
            message += f"\n  not loaded: {info.name} ({info.distribution} {info.version}): {info.problem}"
        super().__init__(message, hint=hint)


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

        :raises UsageError: a file can't be loaded (why an installed plugin can't is in `infos`)
        """
        plugins = cls()
        plugins.files = tuple(files)
        for info in (PluginInfo(PROJECT, PROJECT, __version__, hooks=builtin), *installed_plugins()):
            plugins.register(info)
        for file in files:
            plugins.register(plugin_file(file))
            if (problem := plugins.infos[-1].problem) is not None:
                raise UsageError(f"-p {file}: {problem}")
        return plugins

    def register(self, info: PluginInfo) -> None:
        """Check a plugin's hooks and take what it declares; a plugin with a fault is noted and left out."""
        if info.problem is None:
            hooks = checks.hooks_of(self.manager, info.hooks)
            components, problem = checks.attempt(lambda: self._declared(info, hooks))
            self.components += components or []
            info = replace(info, problem=problem, notices=info.notices + checks.hook_notices(info.hooks, hooks))
        self.infos.append(info)

    def _declared(self, info: PluginInfo, hooks: Mapping[str, str]) -> list[RegisteredComponent]:
        if self.manager.has_plugin(info.name):
            raise PluginError(f"another plugin is named {info.name!r}")
        if self.manager.is_registered(info.hooks):
            raise PluginError(f"its hooks are those of plugin {self.manager.get_name(info.hooks)!r}")
        if faults := [*checks.hook_faults(info.hooks, hooks)]:
            raise PluginError("; ".join(faults))
        components = [
            RegisteredComponent(component, kind, info.name, info.distribution, info.source)
            for kind in KINDS
            for name, hook in hooks.items()
            if hook == kind
            for component in checks.declared(hook, getattr(info.hooks, name)())
        ]
        try:
            self.manager.register(info.hooks, name=info.name)
        except pluggy.PluginValidationError:
            self.manager.unregister(info.hooks)
            raise
        return components

    def of_kind(self, hook: str) -> list[RegisteredComponent]:
        """Everything that one declaring hook declared, by any plugin."""
        return [registered for registered in self.components if registered.hook == hook]

    def find(self, hook: str, name: str) -> RegisteredComponent:
        """The component of that name: ``Name``, or ``plugin:Name``; case does not matter.

        :raises Unresolved: no such component, or several
        :raises PluginError: its plugin is not installed or not loaded
        """
        plugin, _, short = name.rpartition(":")
        found = [
            each
            for each in self.of_kind(hook)
            if each.component.name.casefold() == short.casefold() and plugin.casefold() in ("", each.plugin.casefold())
        ]
        if not found:
            raise self._not_found(hook, name, short)
        if len(found) > 1:
            names = " or ".join(repr(each.full_name) for each in found)
            raise Unresolved(f"{KINDS[hook]} {name!r} is offered by several plugins", hint=f"write {names}")
        return found[0]

    def _not_found(self, hook: str, name: str, short: str) -> HfoptError:
        for proper, home in known(hook).items():
            if proper.casefold() == short.casefold():
                what = f"{KINDS[hook]} {proper!r}"
                problem = next((info.problem for info in self.infos if info.distribution == home.distribution), None)
                if problem is None:
                    return PluginError(f"{what} needs {home.distribution}, which is not installed", hint=home.install)
                return PluginError(f"{what} is not available: {home.distribution} is not loaded: {problem}")
        installed = sorted({each.component.name for each in self.of_kind(hook)})
        not_loaded = [info for info in self.infos if info.problem]
        hint = did_you_mean(short, [*installed, *known(hook)])
        return UnknownComponent(hook, name, ", ".join(installed) or "none", not_loaded, hint)

    def call_lifecycle(self, hook: str, warn: Callable[[str], None], **arguments: Any) -> None:
        """Call a lifecycle hook of each plugin in turn; a failure is a warning."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            others = self.manager.get_plugins() - {implementation.plugin}
            call = partial(self.manager.subset_hook_caller(hook, others), **arguments)
            if problem := checks.attempt(call)[1]:
                warn(f"plugin {implementation.plugin_name}: {hook} failed: {problem}")


def versions(infos: Iterable[PluginInfo]) -> Mapping[str, str]:
    """The version of every loaded plugin, by distribution."""
    return {info.distribution: info.version or "" for info in infos if info.distribution and not info.problem}

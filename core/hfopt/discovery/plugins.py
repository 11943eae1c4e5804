"""Which plugins there are and what they declare: pluggy checks and calls their hooks.

Nothing here imports a component; `RegisteredComponent.load` does, when a config has named it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

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


@dataclass(frozen=True)
class Kind:
    """What a hook declares.

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
    "hfopt_packagers": Kind("packager", "hfopt.api.packaging:Packager"),
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

    @property
    def digest(self) -> str | None:
        """Of a ``-p`` file's content."""
        return None if self.source is None else sha256(self.source.read_bytes()).hexdigest()

    def problem(self) -> str | None:
        """Why the component can't be used, all of it; None: it can. Imports its class."""
        try:
            faults = checks.component_faults(resolve_name(self.component.target), resolve_name(KINDS[self.hook].base))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything at its import
            return checks.reason(error)
        return f"{self.component.target} {'; '.join(faults)}" if faults else None

    def load(self) -> Any:
        """Import the component's class.

        :raises PluginError: it can't be used
        """
        if (problem := self.problem()) is not None:
            who = f"{KINDS[self.hook]} {self.component.name!r} of {self.plugin} ({self.distribution or self.source})"
            raise PluginError(f"{who} is NOT LOADED: {problem}")
        return resolve_name(self.component.target)


class Unresolved(UsageError):
    """A component name that no component, or more than one, answers to."""


class UnknownComponent(Unresolved):
    """A component name that nobody here has heard of.

    :param installed: the components of that kind
    :param not_loaded: plugins that might have it
    """

    def __init__(self, hook: str, name: str, installed: str, not_loaded: list[PluginInfo], hint: str | None) -> None:
        lines = [f"no {KINDS[hook]} named {name!r}; installed: {installed}"]
        lines += [
            f"  not loaded: {info.name} ({info.distribution} {info.version}): {info.problem}" for info in not_loaded
        ]
        super().__init__("\n".join(lines), hint=hint)
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

        :raises UsageError: a file can't be loaded (of an installed plugin that can't, `infos` has the reason)
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
        """Check a plugin's hooks and take what it declares; one with a fault is noted and left out."""
        if info.problem is None:
            try:
                info = replace(info, notices=(*info.notices, *checks.hook_notices(self.manager, info.hooks)))
                self.components += self._declared(info)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; it is attributed and kept
                info = replace(info, problem=checks.reason(error))
        self.infos.append(info)

    def _declared(self, info: PluginInfo) -> list[RegisteredComponent]:
        hooks = info.hooks
        if self.manager.has_plugin(info.name):
            raise PluginError(f"another plugin is named {info.name!r}")
        if self.manager.is_registered(hooks):
            raise PluginError(f"its hooks are those of plugin {self.manager.get_name(hooks)!r}")
        if faults := checks.hook_faults(self.manager, hooks):
            raise PluginError("; ".join(faults))
        try:
            self.manager.register(hooks, name=info.name)
            self.manager.check_pending()
            implemented = {caller.name for caller in self.manager.get_hookcallers(hooks) or ()}
            return [
                RegisteredComponent(component, hook, info.name, info.distribution, info.source)
                for hook in KINDS
                if hook in implemented
                for component in checks.declared(hook, self._call(hook, hooks))
            ]
        except BaseException:
            self.manager.unregister(hooks)
            raise

    def _call(self, hook: str, plugin: object, **arguments: Any) -> Any:
        """Call one plugin's implementation of a hook.

        :return: a list of what it returned, unless that is None
        """
        others = [each for each in self.manager.get_plugins() if each is not plugin]
        return self.manager.subset_hook_caller(hook, others)(**arguments)

    def of_kind(self, hook: str) -> list[RegisteredComponent]:
        """Everything that one declaring hook yielded."""
        return [registered for registered in self.components if registered.hook == hook]

    def find(self, hook: str, name: str) -> RegisteredComponent:
        """The component of that name: ``Name``, or ``plugin:Name``; case does not matter.

        :raises Unresolved: no such component, or several
        :raises PluginError: it is a component of a plugin that is not installed or not loaded
        """
        plugin, _, short = name.rpartition(":")
        found = [
            registered
            for registered in self.of_kind(hook)
            if registered.component.name.casefold() == short.casefold()
            and plugin.casefold() in ("", registered.plugin.casefold())
        ]
        if len(found) == 1:
            return found[0]
        if found:
            names = " or ".join(repr(registered.full_name) for registered in found)
            raise Unresolved(f"{KINDS[hook]} {name!r} is offered by several plugins", hint=f"write {names}")
        raise self._not_found(hook, name, short)

    def _not_found(self, hook: str, name: str, short: str) -> HfoptError:
        proper = next((each for each in known(hook) if each.casefold() == short.casefold()), None)
        if proper is not None:
            home = known(hook)[proper]
            problem = next((info.problem for info in self.infos if info.distribution == home.distribution), None)
            if problem is not None:
                return PluginError(
                    f"{KINDS[hook]} {proper!r} is not available: {home.distribution} is not loaded: {problem}"
                )
            return PluginError(
                f"{KINDS[hook]} {proper!r} needs {home.distribution}, which is not installed", hint=home.install
            )
        return UnknownComponent(
            hook,
            name,
            installed=", ".join(sorted({registered.component.name for registered in self.of_kind(hook)})) or "none",
            not_loaded=[info for info in self.infos if info.problem],
            hint=did_you_mean(short, [*(registered.component.name for registered in self.of_kind(hook)), *known(hook)]),
        )

    def call_lifecycle(self, hook: str, warn: Callable[[str], None], **arguments: Any) -> None:
        """Call a lifecycle hook of each plugin in turn; one that raises is a warning."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                self._call(hook, implementation.plugin, **arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; the run goes on
                warn(f"plugin {implementation.plugin_name}: {hook} failed: {checks.reason(error)}")


def versions(infos: Iterable[PluginInfo]) -> Mapping[str, str]:
    """Distribution to version, of all plugins that are loaded."""
    return {info.distribution: info.version or "" for info in infos if info.distribution and not info.problem}

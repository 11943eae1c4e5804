"""Collects what is wrong with a config while its sections are resolved: every mistake, before any is reported.

Imports the components that the config names and nothing else: no network, no user code, no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hfopt.api.config import Config, ConfigContext, UnknownName
from hfopt.api.dialects import Dialect
from hfopt.api.references import Reference, tokens_in
from hfopt.base.errors import ConfigError, Place, PluginError, Problem
from hfopt.base.values import dotted, place_of, texts_in
from hfopt.config.document import ENOUGH, Document
from hfopt.config.problems import Mistakes, once, unknown_name, validate
from hfopt.config.schema import Section
from hfopt.discovery.plugins import KINDS, Plugins, RegisteredComponent, UnknownComponent, Unresolved

T = TypeVar("T")
MOST_ENTRIES = 300
"""Of a section; each may be a component with options of its own."""
Entries = dict[Any, T | None]
"""By name or position; None: it has mistakes."""


class Unavailable(Mistakes):
    """A component is not there. It does no harm if nothing uses it."""


@dataclass(frozen=True)
class ConfiguredComponent:
    """A component that the config names, with its options.

    :param paths: the input paths among the options
    :param data: the names of data configs among the options
    :param resources: what its options refer to, by token
    """

    registered: RegisteredComponent
    cls: Any
    config: Config
    paths: tuple[Path, ...] = ()
    data: tuple[str, ...] = ()
    resources: Mapping[str, ConfiguredComponent] = field(default_factory=dict)


def name_of(section: str, place: Place, entry: Any) -> Any:
    """What refers to an entry: a data config's own name, the key of another, the place of one written out elsewhere.

    None if it can't be read.
    """
    if section == "data_configs":
        name = entry.get("name") if isinstance(entry, dict) else None
        return name if isinstance(name, str) else None
    return place[1] if place[0] == section else dotted(place)


@dataclass
class Checker:
    """Problems and notices, and the checks that several sections need.

    :param data_names: the names under ``data_configs``; None if they can't be read: then every name passes
    :param sections: what is under the keys that plugins own
    """

    document: Document
    plugins: Plugins
    problems: list[Problem]
    notices: list[str]
    data_names: frozenset[str] | None
    sections: dict[str, Config] = field(default_factory=dict)

    def problem(self, place: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(place, message, hint))

    def attempt(self, resolve: Callable[..., T], *arguments: Any) -> T | None:
        """What a function returns; None if it raises `Mistakes`, which are noted."""
        try:
            return resolve(*arguments)
        except Mistakes as mistakes:
            if isinstance(mistakes, Unavailable) and self._unused(*mistakes.args[0].path[:2]):
                self.notices += [f"nothing uses {dotted(each.path[:2])}: {each.message}" for each in mistakes.args]
            else:
                self.problems += mistakes.args
            if len(self.problems) >= ENOUGH:
                raise self.error() from mistakes
            return None

    def error(self) -> ConfigError:
        """What is wrong so far, each thing once."""
        return self.document.error(once(list(dict.fromkeys(self.problems))))

    def written(self, kind: type[Any], raw: Any, section: str) -> dict[Place, Any]:
        """The entries of a section by place; it may be absent.

        :param kind: dict, whose keys are the user's own names, or list
        """
        if not isinstance(raw, kind | None):
            self.problem((section,), "expected a list" if kind is list else "expected an object")
            return {}
        return {(section, key): each for key, each in (raw.items() if isinstance(raw, dict) else enumerate(raw or ()))}

    def entries(self, section: str, written: Mapping[Place, Any], resolve: Callable[..., T], *more: Any) -> Entries[T]:
        """Entries of a section by name; those that are written out elsewhere are called by their place.

        :param resolve: is called with this checker, an entry, its place, and what follows; see `attempt`
        :raises ConfigError: there are so many that they would take long
        """
        if len(written) > MOST_ENTRIES:
            self.problem((section,), f"holds {len(written):,} entries, more than the {MOST_ENTRIES} that are read")
            raise self.error()
        return {
            name_of(section, place, each): self.attempt(resolve, self, each, place, *more)
            for place, each in written.items()
        }

    def _unused(self, section: Any, key: Any) -> bool:
        """Whether the name of a section's entry stands nowhere else; conservative."""
        if section not in ("systems", "data_configs"):
            return False
        name = self.document.value[section][key]["name"] if section == "data_configs" else key
        return name not in self.elsewhere[section]

    @cached_property
    def elsewhere(self) -> dict[str, set[str]]:
        """Of each section, every text that stands in the others."""
        texts = {section: {*texts_in(value)} for section, value in self.document.value.items()}
        return {each: set().union(*(found for other, found in texts.items() if other != each)) for each in texts}

    def known(self, place: Place, kind: str, name: str | None, known: Collection[str] | None) -> None:
        """Report a name that is not known. None passes, and so does any name if it can't be told which are known."""
        if name is not None and known is not None and name not in known:
            self.problems.append(unknown_name(place, UnknownName(kind, name, sorted(known))))

    def unique(self, values: Mapping[Place, Hashable]) -> None:
        """Report each value that an earlier place has too; None is no value."""
        first: dict[Hashable, Place] = {}
        for place, value in values.items():
            if value is not None and first.setdefault(value, place) != place:
                self.problem(place, f"must be unique: {dotted(first[value])} is {value!r} too")

    def component(self, hook: str, section: Section | Reference, place: Place) -> ConfiguredComponent:
        """What a section names and configures.

        :param place: of the section
        :raises Mistakes: it can't be had, or not with these options
        """
        registered, _ = self.find(hook, section.type, (*place, "type"))
        return self.configured(registered, section.config, (*place, "config"))

    def find(self, hook: str, name: str, place: Place) -> tuple[RegisteredComponent, Any]:
        """A component by its name, which stands at a place, and its class.

        :raises Mistakes: the name is wrong, or the plugin is missing or broken
        """
        try:
            registered = self.plugins.find(hook, name)
            return registered, registered.load()
        except (Unresolved, PluginError) as error:
            problem = Problem(place, error.message, error.hint, error.exit_code)
            foreign = isinstance(error, UnknownComponent) and self._unavailable(hook, name)
            if foreign:
                problem = Problem(place, f"{KINDS[hook]} {foreign!r} is not available in this version")
            raise (Unavailable if foreign or isinstance(error, PluginError) else Mistakes)(problem) from error

    def _unavailable(self, hook: str, name: str) -> str | None:
        return next(filter(None, (each.unavailable(hook, name) for each in self.dialects)), None)

    @cached_property
    def dialects(self) -> list[type[Dialect]]:
        """Those that can be used; of the others ``hfopt plugins`` tells."""
        offered = self.plugins.of_kind("hfopt_config_dialects")
        return [each.load() for each in offered if each.problem() is None]

    def configured(
        self, registered: RegisteredComponent, options: Any, place: Place, roots: tuple[Path, ...] = ()
    ) -> ConfiguredComponent:
        """A component with its options.

        :param place: where the options stand
        :param roots: folders in which input paths are looked for before the config file's own
        :raises Mistakes: the options are not valid
        """
        cls = registered.load()
        context = ConfigContext(self.document.folder, self.data_names, roots=roots, sections=self.sections)
        config = validate(cls.Config, options, place, context)
        self.notices += context.notices
        self.notices += [f"{dotted((*place, key))} is ignored: {why}" for key, why in config.ignored().items()]
        dumped = config.model_dump(mode="json")
        resources = {
            token: self.component("hfopt_resources", Reference.of(token), (*place, *(place_of(token, dumped) or ())))
            for token in tokens_in(dumped)
        }
        paths, data = tuple(dict.fromkeys(context.used_paths)), tuple(dict.fromkeys(context.used_data))
        return ConfiguredComponent(registered, cls, config, paths, data, resources)

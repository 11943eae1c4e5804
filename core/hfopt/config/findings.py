"""What is found wrong with a config while it is gone through, and the checks that every section shares.

All mistakes are collected before any is reported. Imports the components that the config names and nothing else: no
network, no user code, no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from hfopt.api.config import Config, ConfigContext, UnknownName
from hfopt.api.resources import Reference, tokens_in
from hfopt.base.errors import PluginError, Problem
from hfopt.base.text import did_you_mean
from hfopt.config.document import Document, dotted
from hfopt.config.olive.keys import IGNORED, NO_SEARCH, REFUSED
from hfopt.config.olive.unavailable import unavailable
from hfopt.config.problems import keys_of, validate
from hfopt.discovery.plugins import KINDS, Plugins, RegisteredComponent, UnknownComponent, Unresolved

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]

DEFAULT_VALUE, SEARCHABLE_VALUES = "DEFAULT_VALUE", "SEARCHABLE_VALUES"
"""What Olive's configs write in place of an option's value."""


@dataclass(frozen=True)
class ConfiguredComponent:
    """A component that the config names, with its options.

    :param paths: the input paths among the options
    :param data: the data names among the options
    :param resources: what its options refer to, by token
    """

    registered: RegisteredComponent
    cls: Any
    config: Config
    paths: tuple[Path, ...] = ()
    data: tuple[str, ...] = ()
    resources: Mapping[str, ConfiguredComponent] = field(default_factory=dict)


@dataclass
class Findings:
    """Collects problems and notices.

    :param data_names: the names under ``data_configs``; None if that section can't be read: then no name is unknown
    """

    document: Document
    plugins: Plugins
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    data_names: frozenset[str] | None = None

    def problem(self, place: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(place, message, hint))

    def unknown_name(self, place: Place, kind: str, name: str, known: Sequence[str]) -> None:
        self.unknown(place, UnknownName(kind, name, sorted(known)))

    def unknown(self, place: Place, error: UnknownName) -> None:
        hint = did_you_mean(error.name, error.known)
        self.problem(place, str(error), hint)

    def unresolved(self, place: Place, error: Unresolved | PluginError) -> None:
        """A component that is not there: a mistake of the user's, or a plugin that is missing."""
        problem = Problem(place, error.message, error.hint, error.exit_code)
        if isinstance(error, UnknownComponent) and (olive := unavailable(error.hook, error.name)) is not None:
            fact = f"{KINDS[error.hook]} {olive!r} is not available in this version; installed: {error.installed}"
            problem = Problem(place, fact)
        if problem not in self.problems:
            self.problems.append(problem)

    def model(self, model: type[M], value: Any, place: Place, section: str) -> M | None:
        """A section as its model, without the keys that this version does not act on."""
        return validate(model, self.acceptable(value, place, section), place, self.problems)

    def acceptable(self, value: Any, place: Place, section: str) -> Any:
        """The value without keys that this version refuses or ignores, each of which is reported."""
        if not isinstance(value, dict):
            return value
        kept = dict(value)
        for key, reason in REFUSED.get(section, {}).items():
            if key in kept and kept.pop(key):
                self.problem((*place, key), reason)
        for key, notice in IGNORED.get(section, {}).items():
            if kept.pop(key, None) is not None:
                self.notices.append(f"{'.'.join(map(str, (*place, key)))} is ignored: {notice}")
        return kept

    def entries(self, raw: Any, place: Place) -> dict[str, Any]:
        """A section whose keys are names of the user's."""
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            self.problem(place, "expected an object")
            return {}
        return raw

    def component(
        self, hook: str, name: str, options: Any, place: Place, options_key: str
    ) -> ConfiguredComponent | None:
        """A component with its options."""
        registered = self.find(hook, name, place)
        return None if registered is None else self.configured(registered, options, (*place, options_key))

    def find(self, hook: str, name: str, place: Place) -> RegisteredComponent | None:
        """A component by its name, if it can be used."""
        try:
            registered = self.plugins.find(hook, name)
            registered.load()
        except (Unresolved, PluginError) as error:
            self.unresolved((*place, "type"), error)
            return None
        return registered

    def configured(
        self, registered: RegisteredComponent, options: Any, place: Place, roots: tuple[Path, ...] = ()
    ) -> ConfiguredComponent | None:
        """A component with its options, if they are valid.

        :param place: of the options
        :param roots: folders in which input paths are looked for before the config's own
        """
        cls = registered.load()
        around = ConfigContext(self.document.folder, self.data_names, roots=roots)
        config = validate(cls.Config, options, place, self.problems, around)
        self.notices += around.notices
        if config is None:
            return None
        for option, reason in config.ignored().items():
            self.notices.append(f"{dotted((*place, option))} is ignored: {reason}")
        resources = self._resources(config, place)
        return ConfiguredComponent(
            registered, cls, config, tuple(around.used_paths), tuple(around.used_data), resources
        )

    def fixed(self, model: type[Config], options: Any, place: Place) -> Any:
        """A pass's options without those that are to have their default; one for a search to choose is a problem."""
        if not isinstance(options, dict):
            return options
        known = keys_of(model)
        special = {name: value for name, value in options.items() if name in known and _is_special(value)}
        for name, value in special.items():
            if value != DEFAULT_VALUE:
                self.problem((*place, name), NO_SEARCH)
        return {name: value for name, value in options.items() if name not in special}

    def _resources(self, config: Config, place: Place) -> dict[str, ConfiguredComponent]:
        """What the references among a component's options need, by token."""
        found: dict[str, ConfiguredComponent] = {}
        for token in dict.fromkeys(tokens_in(config.model_dump(mode="json"))):
            reference = Reference.of(token)
            chosen = self.component("hfopt_resources", reference.type, reference.config, place, "config")
            if chosen is not None:
                found[token] = chosen
        return found


def _is_special(value: Any) -> bool:
    """Whether a value stands for others: the default, or those that a search tries."""
    return value in (DEFAULT_VALUE, SEARCHABLE_VALUES) or (isinstance(value, dict) and "olive_parameter_type" in value)


def loaded(registered: RegisteredComponent) -> Any:
    """A component's class, or None if it can't be imported."""
    try:
        return registered.load()
    except PluginError:
        return None

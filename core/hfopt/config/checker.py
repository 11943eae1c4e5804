"""Collects what is wrong with a config while its sections are resolved: every mistake, before any is reported.

Imports the components that the config names and nothing else: no network, no user code, no framework.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfopt.api.config import Config, ConfigContext, UnknownName
from hfopt.api.resources import Reference, tokens_in
from hfopt.base.errors import PluginError, Problem
from hfopt.config.document import Document, dotted
from hfopt.config.olive.dialect import unavailable
from hfopt.config.problems import M, Place, unknown_name, validate
from hfopt.discovery.plugins import KINDS, Plugins, RegisteredComponent, UnknownComponent, Unresolved


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


@dataclass
class Checker:
    """Problems and notices, and the checks that several sections need.

    :param data_names: the names under ``data_configs``; None if they can't be read: then every name passes
    """

    document: Document
    plugins: Plugins
    problems: list[Problem]
    notices: list[str]
    data_names: frozenset[str] | None

    def problem(self, place: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(place, message, hint))

    def known(self, place: Place, kind: str, name: str | None, known: Collection[str] | None) -> bool:
        """Whether a name is known, or none is written; an unknown one is a problem."""
        if name is None or known is None or name in known:
            return True
        self.problems.append(unknown_name(place, UnknownName(kind, name, sorted(known))))
        return False

    def unique(self, values: Mapping[Place, Hashable]) -> None:
        """Report each value that an earlier place has too."""
        first: dict[Hashable, Place] = {}
        for place, value in values.items():
            if first.setdefault(value, place) != place:
                self.problem(place, f"must be unique: {dotted(first[value])} is {value!r} too")

    def unresolved(self, place: Place, error: Unresolved | PluginError) -> None:
        """Report a component that can't be had: the user's mistake, or a missing plugin."""
        problem = Problem(place, error.message, error.hint, error.exit_code)
        if isinstance(error, UnknownComponent) and (olive := unavailable(error.hook, error.name)) is not None:
            fact = f"{KINDS[error.hook]} {olive!r} is not available in this version; installed: {error.installed}"
            problem = Problem(place, fact)
        if problem not in self.problems:
            self.problems.append(problem)

    def section(self, model: type[M], value: Any, place: Place) -> M | None:
        """A section as an instance of its model, or None with every mistake in it reported."""
        return validate(model, value, place, self.problems)

    def entries(self, raw: Any, place: Place) -> dict[str, Any]:
        """The entries of a section whose keys are the user's own names; it may be absent."""
        if not isinstance(raw, dict | None):
            self.problem(place, "expected an object")
            return {}
        return raw or {}

    def component(self, hook: str, name: str, options: Any, place: Place) -> ConfiguredComponent | None:
        """A component with its options, which stand beside its type in ``config``."""
        registered = self.find(hook, name, place)
        return None if registered is None else self.configured(registered, options, (*place, "config"))

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

        :param place: where the options stand
        :param roots: folders in which input paths are looked for before the config file's own
        """
        cls = registered.load()
        context = ConfigContext(self.document.folder, self.data_names, roots=roots)
        config = validate(cls.Config, options, place, self.problems, context)
        self.notices += context.notices
        if config is None:
            return None
        for option, reason in config.ignored().items():
            self.notices.append(f"{dotted((*place, option))} is ignored: {reason}")
        resources: dict[str, ConfiguredComponent] = {}
        for token in dict.fromkeys(tokens_in(config.model_dump(mode="json"))):
            reference = Reference.of(token)
            resource = self.component("hfopt_resources", reference.type, reference.config, place)
            if resource is not None:
                resources[token] = resource
        return ConfiguredComponent(
            registered, cls, config, tuple(context.used_paths), tuple(context.used_data), resources
        )

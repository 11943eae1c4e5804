"""The hooks of hfopt: the plugin author's manual.

A plugin is a distribution with one entry point in the group ``hfopt.plugins``, whose value is a small module,
by convention ``hooks.py``::

    [project.entry-points."hfopt.plugins"]
    acme-prune = "acme_prune.hooks"

That module implements any of the hooks below with `hfopt.hookimpl`. It is imported by every `hfopt` command, so it
imports nothing but `hfopt`; what it declares is imported when a config names it. Every hook of a plugin is checked
against these specs: an unknown name or argument is an error that ``hfopt plugins`` shows. One plugin's failure leaves
the others alone.

*Declaring* hooks return components. They are called once in every process (host and workers), one plugin at a time,
in order of name. A component's class is checked when it is first loaded, and by ``hfopt plugins``: one that lacks what
its base class asks for is not loaded, and the plugin's other components are. *Lifecycle* hooks are called in the host
process only; one that raises, SystemExit included, is a warning, never a dead run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hfopt.base.component import Component, hookspec

if TYPE_CHECKING:
    from hfopt.api.steps import PlannedStep, RunPlan


@hookspec
def hfopt_model_loaders() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare the model types that this plugin can open (``input_model.type``, and what its passes produce).

    :return: components whose target is a subclass of :class:`hfopt.ModelLoader`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_data_containers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare the data containers that this plugin offers (``data_configs[].type``).

    :return: components whose target is a subclass of :class:`hfopt.DataContainer`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_metric_backends() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare the metric backends that this plugin offers (``metrics[].backend``).

    :return: components whose target is a subclass of :class:`hfopt.MetricBackend`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_passes() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare the passes that this plugin offers (``passes.<name>.type``).

    :return: components whose target is a subclass of :class:`hfopt.Pass`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_systems() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare the systems that this plugin offers (``systems.<name>.type``).

    :return: components whose target is a subclass of :class:`hfopt.System`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_resources() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare kinds of places that models and data can be fetched from (a hub, a registry, a URL).

    A component's options refer to one by a :class:`hfopt.Reference`, and see the folder that was fetched in its place.

    :return: components whose target is a subclass of :class:`hfopt.Resource`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_config_sections() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare keys at the top of a config that this plugin owns, such as ``azureml_client``: a component's name is one.

    What stands there is checked even if nothing uses it. Other components find it in ``ConfigContext.sections``, which
    a validator of theirs gets as ``info.context``; a step never sees it: what it needs must be among its own options.

    :return: components whose target is a subclass of :class:`hfopt.api.config.ConfigSection`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_config_dialects() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare ways of writing configs, such as another tool's.

    Each of them translates every config in turn, in order of their plugins' names, before anything is checked.

    :return: components whose target is a subclass of :class:`hfopt.api.dialects.Dialect`
    :on error: ``hfopt plugins`` reports the plugin; configs are read without it

    .. versionadded:: API 1
    """


@hookspec
def hfopt_token_providers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare places that keep a hub's token, such as a key vault.

    They are asked in workers, in order of their plugins' names, only while something is resolved or fetched online, if
    the user has no token and the systems' ``hf_token`` is not false. The first token is used.

    :return: components whose target is a subclass of :class:`hfopt.TokenProvider`
    :on error: ``hfopt plugins`` reports the plugin; a provider that fails when it is asked fails what needs the token

    .. versionadded:: API 1
    """


@hookspec
def hfopt_search_algorithms() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare ways of choosing what a search tries next (``engine.search_strategy.search_algorithm``).

    :return: components whose target is a subclass of :class:`hfopt.SearchAlgorithm`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_pass_choosers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare what chooses passes for configs that name none; the one called ``auto_optimizer`` does.

    :return: components whose target is a subclass of :class:`hfopt.PassChooser`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_packagers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare ways of handing on a run's models (``engine.packaging_config.type``).

    :return: components whose target is a subclass of :class:`hfopt.Packager`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_commands() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare commands: ``hfopt NAME``. The names of hfopt's own commands are taken.

    :return: components whose target is a subclass of :class:`hfopt.Command`; order is ignored
    :on error: ``hfopt plugins`` reports the plugin; other plugins are unaffected

    .. versionadded:: API 1
    """


@hookspec
def hfopt_before_run(plan: RunPlan) -> None:
    """Look at a run that is about to start.

    :param plan: its steps, as far as they are known now
    :on error: a warning that names the plugin

    .. versionadded:: API 1
    """


@hookspec
def hfopt_before_step(step: PlannedStep, key: str) -> None:
    """Look at a step that is about to be handed to its system. Not called for a step that the cache answers.

    :param step: what is done to what
    :param key: the step's key, which is its artifact's name in the cache
    :on error: a warning that names the plugin

    .. versionadded:: API 1
    """


@hookspec
def hfopt_after_step(step: PlannedStep, key: str, metrics: Mapping[str, Any]) -> None:
    """Look at a step that succeeded.

    :param metrics: what the step measured, as in run.json; empty for most kinds
    :on error: a warning that names the plugin

    .. versionadded:: API 1
    """


@hookspec
def hfopt_on_step_error(step: PlannedStep, key: str, message: str) -> None:
    """Look at a step that failed.

    :param message: the reason, as run.json has it
    :on error: a warning that names the plugin

    .. versionadded:: API 1
    """


@hookspec
def hfopt_after_run(record: Mapping[str, Any]) -> None:
    """Look at a run that has ended, whatever its status.

    :param record: run.json
    :on error: a warning that names the plugin

    .. versionadded:: API 1
    """

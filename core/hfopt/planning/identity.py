"""The key of every step of a plan, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfopt.api.protocol import INPUT
from hfopt.api.references import MARK
from hfopt.api.resources import Resolved
from hfopt.base.component import PROJECT
from hfopt.base.values import replace_strings
from hfopt.cache.keys import key_of
from hfopt.discovery.plugins import RegisteredComponent
from hfopt.planning.graph import BEGUN, Step


@dataclass(frozen=True)
class Identity:
    """A step's key, and what it was made of."""

    key: str
    recipe: Mapping[str, Any]


def identify(
    step: Step,
    known: Mapping[Step, Identity],
    leaves: Mapping[Path, str],
    resolved: Mapping[str, Resolved],
    versions: Mapping[str, Mapping[str, str]],
    machine: Mapping[str, Any],
) -> Identity:
    """A step's key and recipe.

    What a resource yields depends on what it resolved to alone, so that neither a client's upgrade nor another way of
    writing the same revision runs anything again.

    :param known: of its parents
    :param leaves: digest of each input path
    :param resolved: what references mean, by token; one that could not be resolved is missing
    :param versions: what each component depends on where the step runs, by its full name
    :param machine: what timings depend on there
    """
    recipe: dict[str, Any] = {"kind": step.kind, "component": step.component}
    if step.token is not None:
        recipe["identity"] = resolved[step.token].identity if step.token in resolved else f"unknown {step.token}"
    else:
        parents = {role: known[parent].key for role, parent in step.inputs.items() if role != BEGUN}
        fetched = {role: key for role, key in parents.items() if role.startswith(MARK)}
        recipe |= {
            "versions": {each.full_name: versions[each.full_name] for each in step.needs},
            "config": replace_strings(portable_config(step, leaves), fetched),
            "inputs": {role: key for role, key in parents.items() if role not in fetched},
            "paths": sorted({leaves[path] for path in step.paths}),
            "accelerator": step.accelerator.model_dump(),
            "seed": step.seed,
            "machine": machine if step.measures else None,
        }
    if step.parity is not None:
        recipe["parity"] = step.parity.model_dump()
    return Identity(key_of(recipe), recipe)


def portable_config(step: Step, leaves: Mapping[Path, str]) -> dict[str, Any]:
    """A step's options with a token in place of each input path."""
    tokens = {str(path): INPUT + leaves[path] for path in step.paths}
    return dict(replace_strings(step.config.model_dump(mode="json"), tokens))


def needed_distributions(components: Iterable[RegisteredComponent], distributions: Mapping[str, str]) -> dict[str, str]:
    """The versions of hfopt and of the plugins that offer some components.

    :param distributions: the host's version of each
    """
    names = {PROJECT, *(each.distribution for each in components)}
    return {name: version for name, version in distributions.items() if name in names}

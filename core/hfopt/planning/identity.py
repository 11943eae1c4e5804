"""The key of every step of a plan, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfopt.api.protocol import StepRequest
from hfopt.api.resources import MARK, Resolved
from hfopt.cache.keys import key_of, replace_strings
from hfopt.planning.graph import Step


@dataclass(frozen=True)
class Identity:
    """A step's key, and what it was made of."""

    key: str
    recipe: Mapping[str, Any]


def identities(
    steps: Sequence[Step],
    digests: Mapping[str, str],
    resolved: Mapping[str, Resolved],
    versions: Mapping[Step, Mapping[str, Any]],
    machines: Mapping[str, Mapping[str, Any]],
) -> dict[Step, Identity]:
    """Every step's key and recipe.

    What a resource yields depends on what it resolved to alone, so that neither a client's upgrade nor another way of
    writing the same revision runs anything again.

    :param steps: each after its parents
    :param digests: of the input paths, by absolute path
    :param resolved: what references mean, by token; one that could not be resolved is missing
    :param versions: what matters to each step's components where it runs
    :param machines: what timings depend on, by system
    """
    known: dict[Step, Identity] = {}
    for step in steps:
        recipe: dict[str, Any] = {"kind": step.kind, "component": step.component}
        if step.token is not None:
            recipe["identity"] = resolved[step.token].identity if step.token in resolved else f"unknown {step.token}"
        else:
            parents = {role: known[parent].key for role, parent in step.inputs.items()}
            fetched = {role: key for role, key in parents.items() if role.startswith(MARK)}
            recipe |= {
                "versions": versions[step],
                "config": replace_strings(step.config.model_dump(mode="json"), {**digests, **fetched}),
                "inputs": {role: key for role, key in parents.items() if role not in fetched},
                "accelerator": step.accelerator.model_dump(),
                "machine": machines[step.system] if step.measures else None,
            }
        if step.parity is not None:
            recipe["parity"] = step.parity.model_dump()
        known[step] = Identity(key_of(recipe), recipe)
    return known


def request(
    step: Step, identities: Mapping[Step, Identity], resolved: Mapping[str, Resolved], threads: int
) -> StepRequest:
    """The step as a worker gets it."""
    return StepRequest(
        key=identities[step].key,
        name=step.name,
        kind=step.kind,
        component=step.component,
        config=step.config.model_dump(mode="json"),
        inputs={role: identities[parent].key for role, parent in step.inputs.items()},
        recipe=dict(identities[step].recipe),
        pin=resolved[step.token].pin if step.token is not None else None,
        accelerator=step.accelerator,
        threads=threads,
        measures=step.measures,
        parity=step.parity,
    )

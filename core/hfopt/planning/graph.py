"""The graph of steps, and which of them make which result.

Nothing here runs a step (`hfopt.engine` does) or knows its key (`hfopt.planning.identity`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfopt.api.config import Config
from hfopt.api.model import Accelerator
from hfopt.api.parity import Parity
from hfopt.api.protocol import StepKind
from hfopt.config.figures import Figure
from hfopt.config.resolve import RunConfig
from hfopt.discovery.plugins import RegisteredComponent

EARLY = ("fetch", "data")
"""Kinds of steps that come before all others, so that what can fail early does."""
BEGUN = "begun"
"""Role of a predict step that has done a part of another's work. No key has it: what a step yields is the same."""
RIVAL = "rival "
"""Begins the roles of predictions of models from which another was chosen."""


@dataclass(frozen=True, eq=False)
class Step:
    """One unit of work: what is done to the results of which other steps, and where.

    :param name: for people: the pass's name in the config, ``input_model``, ``predict quantization``
    :param inputs: earlier steps by role: ``model``, ``data.<name>``, ``baseline``, a reference's token
    :param own: the components that do it
    :param opener: the component that opens its result: a model's loader, a dataset's container
    :param measures: its result depends on the machine
    :param token: of the reference that it fetches, if it is a resource's
    :param hf_token: whether the hub is sent a token for it
    :param parity: how its model's outputs are compared with those of its input, if they are
    """

    name: str
    kind: StepKind
    component: str
    config: Config
    inputs: Mapping[str, Step]
    system: str
    accelerator: Accelerator
    own: tuple[RegisteredComponent, ...] = ()
    opener: RegisteredComponent | None = None
    paths: tuple[Path, ...] = ()
    measures: bool = False
    token: str | None = None
    hf_token: bool | None = None
    parity: Parity | None = None
    seed: int = 0

    @property
    def needs(self) -> tuple[RegisteredComponent, ...]:
        """The components that take part in it: its own, and those that open its inputs, and its result to check it."""
        openers = [self.opener, *(each.opener for each in self.inputs.values())]
        return tuple(dict.fromkeys((*self.own, *(each for each in openers if each is not None))))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that is measured.

    :param passes: what made it, in order
    :param figures: what it is measured by
    :param baseline: score steps of the input model, for the same figures; none unless wanted
    :param scores: its own score steps, one per data config
    :param measurements: it, timed against the input model, one for each data config and way of timing
    :param required: whether the run fails if it does
    :param choices: what a search has chosen, by its place in the config
    :param dropped: why a search has given it up, if it has: then it is not measured, and its scores are looks
    """

    passes: tuple[Step, ...]
    figures: tuple[Figure, ...]
    baseline: tuple[Step, ...]
    scores: tuple[Step, ...]
    measurements: tuple[Step, ...]
    required: bool = True
    choices: Mapping[str, Any] = field(default_factory=dict)
    dropped: str | None = None

    @property
    def model(self) -> Step:
        """The step that makes it."""
        return self.passes[-1]

    def steps(self) -> list[Step]:
        """Every step that it takes, each after its parents."""
        return closure((self.model, *self.scores, *self.measurements))


@dataclass(frozen=True, eq=False)
class Final:
    """Two candidates of a search, timed against each other at its end.

    :param key: of the figure that decides
    :param measurement: the step that has the first as its baseline
    """

    incumbent: Candidate
    challenger: Candidate
    key: str
    measurement: Step

    def steps(self) -> list[Step]:
        """What it takes besides the two models."""
        return [self.measurement]


@dataclass(frozen=True, eq=False)
class Look:
    """A candidate compared with others, as a search goes on.

    :param scores: a step for each data config
    :param last: whether it is the best one, as what was chosen from several by all rows; else it is compared with what
        would make it lose, on a share of them
    """

    scores: tuple[Step, ...]
    last: bool = False

    def steps(self) -> list[Step]:
        """Every step that it takes, each after its parents."""
        return closure(self.scores)


@dataclass(frozen=True, eq=False)
class Branch:
    """What is done for one accelerator.

    :param model: the step that yields the input model
    :param data: the prepared data, by name
    :param candidates: models that are measured; there may be more as a run goes on
    :param finals: likewise
    :param looks: the last ones
    """

    accelerator: Accelerator
    model: Step
    data: dict[str, Step]
    candidates: list[Candidate] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def steps(self) -> list[Step]:
        """Every step once, each after its parents, but what comes early first."""
        ends = [end for each in self.candidates for end in (*each.baseline, *each.steps())]
        return sorted(closure(ends), key=lambda step: step.kind not in EARLY)


def closure(ends: Iterable[Step]) -> list[Step]:
    """Some steps and all that they need, each once and after its parents."""
    found: dict[Step, None] = {}

    def visit(step: Step) -> None:
        if step not in found:
            for parent in step.inputs.values():
                visit(parent)
            found[step] = None

    for end in ends:
        visit(end)
    return list(found)


@dataclass(frozen=True)
class Plan:
    """All that a run will do.

    :param skipped: accelerators that are left out, with the reason
    """

    config: RunConfig
    branches: tuple[Branch, ...]
    skipped: tuple[tuple[Accelerator, str], ...] = ()

    def steps(self) -> list[Step]:
        """Every step once, each after its parents."""
        return list(dict.fromkeys(step for branch in self.branches for step in branch.steps()))

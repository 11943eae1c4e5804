"""The graph of steps, and which of them make which result.

Nothing here runs a step (`hfopt.engine` does) or knows its key (`hfopt.planning.identity`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hfopt.api.config import Config
from hfopt.api.model import Accelerator
from hfopt.api.parity import Parity
from hfopt.api.protocol import StepKind
from hfopt.config.figures import Figure
from hfopt.config.resolve import RunConfig
from hfopt.discovery.plugins import RegisteredComponent


@dataclass(frozen=True, eq=False)
class Step:
    """One unit of work: what is done to the results of which other steps, and where.

    :param name: for people: the pass's name in the config, ``input_model``, ``evaluate quantization``
    :param inputs: earlier steps by role: ``model``, ``data.<name>``, ``baseline``, a reference's token
    :param needs: the components whose versions are part of the key
    :param measures: its result depends on the machine
    :param token: of the reference that it fetches, if it is a resource's
    :param parity: how its model's outputs are compared with those of its input, if they are
    """

    name: str
    kind: StepKind
    component: str
    config: Config
    inputs: Mapping[str, Step]
    system: str
    accelerator: Accelerator
    needs: tuple[RegisteredComponent, ...] = ()
    paths: tuple[Path, ...] = ()
    measures: bool = False
    token: str | None = None
    parity: Parity | None = None

    def with_parents(self) -> Iterator[Step]:
        """This step and all that it needs, each after its parents."""
        seen: list[Step] = []

        def visit(step: Step) -> None:
            if step in seen:
                return
            for parent in step.inputs.values():
                visit(parent)
            seen.append(step)

        visit(self)
        yield from seen


@dataclass(frozen=True)
class Candidate:
    """A model that is measured.

    :param passes: what made it, in order
    :param figures: what it is measured by
    :param input_evaluations: evaluate steps of the input model, for the same figures; none unless wanted
    :param evaluations: its own evaluate steps, one per data config
    :param measurements: it, timed against the input model, one for each data config and way of timing
    """

    passes: tuple[Step, ...]
    figures: tuple[Figure, ...]
    input_evaluations: tuple[Step, ...]
    evaluations: tuple[Step, ...]
    measurements: tuple[Step, ...]

    @property
    def model(self) -> Step:
        """The step that makes it."""
        return self.passes[-1]

    def steps(self) -> list[Step]:
        """Every step that it takes, each after its parents."""
        ends = (self.model, *self.evaluations, *self.measurements)
        return list(dict.fromkeys(step for end in ends for step in end.with_parents()))


@dataclass(frozen=True)
class Branch:
    """What is done for one accelerator.

    :param model: the step that yields the input model
    :param candidates: models that are measured; the last is the result
    """

    accelerator: Accelerator
    model: Step
    candidates: tuple[Candidate, ...]

    @property
    def result(self) -> Candidate:
        """The last pass's model."""
        return self.candidates[-1]

    def steps(self) -> list[Step]:
        """Every step once, each after its parents."""
        inputs = (step for candidate in self.candidates for step in candidate.input_evaluations)
        own = (step for candidate in self.candidates for step in candidate.steps())
        return list(dict.fromkeys(step for end in (*inputs, *own) for step in end.with_parents()))


@dataclass(frozen=True)
class Plan:
    """All that a run will do.

    :param skipped: accelerators that are left out, with the reason
    """

    config: RunConfig
    branches: tuple[Branch, ...]
    skipped: tuple[tuple[Accelerator, str], ...] = ()
    notices: tuple[str, ...] = field(default=())

    def steps(self) -> list[Step]:
        """Every step once, each after its parents."""
        return list(dict.fromkeys(step for branch in self.branches for step in branch.steps()))

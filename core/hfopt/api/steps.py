"""What lifecycle hooks see of a run's plan and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hfopt.api.model import Accelerator
from hfopt.api.protocol import StepKind


class PlannedStep(Protocol):
    """One unit of work: what is done to the results of which other steps, and where."""

    @property
    def name(self) -> str:
        """For people: the pass's name in the config, ``input_model``, ``predict quantization``."""

    @property
    def kind(self) -> StepKind:
        """What is done."""

    @property
    def component(self) -> str:
        """``plugin:Name`` of the loader, container or pass; ``hfopt:KIND`` for the core's own kinds."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Earlier steps by role."""

    @property
    def system(self) -> str:
        """The name of the system that runs it."""

    @property
    def accelerator(self) -> Accelerator:
        """What its model runs on."""


class RunPlan(Protocol):
    """All that a run will do, as far as it is known when the run starts."""

    def steps(self) -> Sequence[PlannedStep]:
        """Every step once, each after its inputs."""

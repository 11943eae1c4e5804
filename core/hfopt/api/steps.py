"""What lifecycle hooks see of a run's plan and steps. It is there to be read: changing it changes no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hfopt.api.model import Accelerator
from hfopt.api.protocol import StepKind


class PlannedStep(Protocol):
    """One unit of work: what is done to the results of which other steps, and where.

    ``name`` is for people: the pass's name in the config, ``input_model``, ``predict quantization``. ``component`` is
    ``plugin:Name`` of a loader, container or pass, ``hfopt:KIND`` for the core's own kinds. ``inputs`` are earlier
    steps by role. ``system`` is the name of the system that runs it, ``accelerator`` what its model runs on.
    """

    name: str
    kind: StepKind
    component: str
    inputs: Mapping[str, Any]
    system: str
    accelerator: Accelerator


class RunPlan(Protocol):
    """All that a run will do, as far as it is known when the run starts."""

    def steps(self) -> Sequence[PlannedStep]:
        """Every step once, each after its inputs."""

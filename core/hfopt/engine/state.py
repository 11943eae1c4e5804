"""What is known of every step of a run so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hfopt.api.protocol import Fault
from hfopt.cache.journal import SettledStep
from hfopt.cache.store import Manifest
from hfopt.planning.graph import Step
from hfopt.planning.identity import Identity


@dataclass
class RunState:
    """What is known of every step so far. A step is settled when it has a manifest or a fault."""

    identities: dict[Step, Identity] = field(default_factory=dict)
    manifests: dict[Step, Manifest] = field(default_factory=dict)
    faults: dict[Step, Fault] = field(default_factory=dict)
    cached: set[Step] = field(default_factory=set)
    interrupted: bool = False

    def key(self, step: Step) -> str:
        """The step's key, which is its artifact's name in the cache."""
        return self.identities[step].key

    def settled(self, step: Step) -> bool:
        return step in self.manifests or step in self.faults

    def done(self, steps: Iterable[Step]) -> bool:
        """Whether every step has its result."""
        return all(step in self.manifests for step in steps)

    def noted(self, step: Step) -> SettledStep:
        """A settled step as the journal has it."""
        manifest = self.manifests.get(step)
        outcome = "failed" if manifest is None else "cached" if step in self.cached else "made"
        return SettledStep(
            step.name, self.key(step), step.component, outcome, None if manifest is None else manifest.seconds
        )

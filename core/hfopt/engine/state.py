"""What is known of every step of a run so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hfopt.api.protocol import Fault
from hfopt.base.errors import HfoptError
from hfopt.cache.journal import SettledStep
from hfopt.cache.manifest import Manifest
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins
from hfopt.planning.graph import Branch, Candidate, Plan, Step
from hfopt.planning.identity import Identity

SPOILT = "ChangedLater"
"""Type of the fault of a step that had a result until another step changed it."""


@dataclass
class RunState:
    """What is known of every step so far.

    :param dropped: steps that were given up, because no result needed them any more when another step had failed
    :param sizes: of models in bytes, as far as `EndedRun.size` was asked: their files have to be looked at
    """

    identities: dict[Step, Identity] = field(default_factory=dict)
    manifests: dict[Step, Manifest] = field(default_factory=dict)
    faults: dict[Step, Fault] = field(default_factory=dict)
    cached: set[Step] = field(default_factory=set)
    dropped: set[Step] = field(default_factory=set)
    sizes: dict[Step, int] = field(default_factory=dict)
    interrupted: bool = False

    def key(self, step: Step) -> str:
        """The step's key, which is its artifact's name in the cache."""
        return self.identities[step].key

    def settled(self, step: Step) -> bool:
        """Whether it has a manifest or a fault, or was dropped."""
        return step in self.manifests or step in self.faults or step in self.dropped

    def done(self, steps: Iterable[Step]) -> bool:
        """Whether every step has its result."""
        return all(step in self.manifests for step in steps)

    def manifests_of(self, steps: Iterable[Step]) -> list[Manifest]:
        """What steps say of themselves, of those that have their result."""
        return [self.manifests[step] for step in steps if step in self.manifests]

    def noted(self, step: Step) -> SettledStep:
        """A settled step as the journal has it."""
        manifest = self.manifests.get(step)
        outcome = "failed" if manifest is None else "cached" if step in self.cached else "made"
        seconds = None if manifest is None else manifest.seconds
        return SettledStep(step.name, self.key(step), step.component, outcome, seconds)


@dataclass(frozen=True)
class EndedRun:
    """A run that has come to its end, as far as it came.

    :param best: the result of each branch, if it has one
    :param folder: where run.json and best/ lie
    :param started: when it began, as records have times
    """

    plan: Plan
    best: Mapping[Branch, Candidate | None]
    state: RunState
    store: ArtifactStore
    plugins: Plugins
    folder: Path
    started: str

    def size(self, step: Step) -> int | None:
        """Bytes of the model that a step made, if it did."""
        if step not in self.state.manifests:
            return None
        if step not in self.state.sizes:
            with suppress(HfoptError, OSError):  # a file of the user's may be gone meanwhile
                self.state.sizes[step] = self.store.read_model(self.state.key(step)).size_bytes
        return self.state.sizes.get(step)

    def identifier(self, step: Step) -> str:
        """What run.json calls the model of a step: the beginning of its key."""
        return self.state.key(step)[:12]

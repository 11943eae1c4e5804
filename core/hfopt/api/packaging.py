"""Packagers: what hands a run's models on, as one thing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfopt.api.config import Configured
from hfopt.api.record import CandidateRecord


@dataclass(frozen=True)
class RankedModel:
    """One of a run's models.

    :param rank: from 1, the best, over all accelerators
    :param candidate: its entry in run.json
    :param accelerator: ``{device, execution_provider}``
    :param folder: a copy that stands on its own, as best/ is: files, model.json, README.md with how to load it
    """

    rank: int
    candidate: CandidateRecord
    accelerator: Mapping[str, str]
    folder: Path


class Packager(Configured):
    """Hands on what a run made. Called in the host process, after the run."""

    @abstractmethod
    def package(self, name: str, models: Sequence[RankedModel], record: Mapping[str, Any], folder: Path) -> Path:
        """Make the package.

        :param name: ``packaging_config.name``
        :param models: every model that was measured, best first
        :param record: run.json
        :param folder: the run's output folder
        :return: what was made
        """

"""Systems: where the worker runs. A system only transports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from hfopt.api.config import Config
from hfopt.api.protocol import Progress, StepRequest, StepResult


class AcceleratorConfig(Config):
    """A device and the execution providers to use on it."""

    device: Literal["cpu", "gpu", "npu"] = Field("cpu", description="The kind of device.")
    execution_providers: tuple[str, ...] | None = Field(
        None, description="ONNX Runtime's names; None: the device's own."
    )


class SystemConfig(Config):
    """Options that every system has."""

    accelerators: tuple[AcceleratorConfig, ...] = Field((), description="One result set each; none: the CPU.")
    hf_token: bool | None = Field(
        None, description="Of no effect on this machine: the token of HF_TOKEN or of `hf auth login` is used by itself."
    )


@dataclass(frozen=True)
class SystemContext:
    """What a system gets from the run.

    :param store: the artifact store's folder
    :param log: the file that takes whatever workers and their libraries print
    :param plugin_files: ``-p`` files, loaded by every worker
    :param offline: no worker may make a request
    :param log_levels: environment of workers that says what they log: see `hfopt.api.logs`
    """

    store: Path
    log: Path
    plugin_files: tuple[Path, ...] = ()
    offline: bool = False
    log_levels: Mapping[str, str] = field(default_factory=dict)


class System(ABC):
    """Carries lists of steps to a worker and results back."""

    Config: ClassVar[type[SystemConfig]]

    def __init__(self, config: Any, context: SystemContext) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        """Run steps in order, each perhaps on results of earlier ones.

        :return: one future per step; a step's failure is a result, a lost worker fails the step it was at
        """

    @abstractmethod
    def cancel(self) -> None:
        """Stop what runs and drop what waits; returns within two seconds."""

    @abstractmethod
    def fingerprint(self, distribution: str | None) -> dict[str, str]:
        """The versions that matter to a component of this distribution where its steps will run.

        :param distribution: as `importlib.metadata` names it; None for a ``-p`` file
        :return: normalised distribution name to version, or to a source digest for an editable one
        """

    @abstractmethod
    def machine(self) -> dict[str, Any]:
        """What a timing depends on: CPU model and flags, threads."""

    def close(self) -> None:
        """End the worker."""

"""Systems: where the worker runs. A system only transports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from hfopt.api.config import Config, ReportProgress
from hfopt.api.protocol import Progress, StepRequest, StepResult
from hfopt.base.secrets import KEEP, looks_secret

_SHORT_NAMES = (
    "Azure", "CANN", "CPU", "CUDA", "CoreML", "Dml", "Dnnl", "Js", "MIGraphX", "NvTensorRTRTX", "Nnapi", "OpenVINO",
    "QNN", "ROCM", "Rknpu", "Tensorrt", "VSINPU", "VitisAI", "WebGpu", "WebNN", "Xnnpack",
)  # fmt: skip
"""ONNX Runtime's execution providers, each without the word ExecutionProvider."""


def _as_spelled(provider: str) -> str:
    """A provider's name as ONNX Runtime writes it, of one in any case, with or without the word at its end."""
    proper = {name.casefold(): f"{name}ExecutionProvider" for name in _SHORT_NAMES}
    return proper.get(provider.casefold().removesuffix("executionprovider"), provider)


def _no_secrets(variables: dict[str, str]) -> dict[str, str]:
    for name in variables:
        if not name or "=" in name:
            raise ValueError(f"{name!r} can't be a variable's name")
        if looks_secret(name):
            raise ValueError(
                f"{name} looks like a credential, and run.json has a copy of the config: "
                f"set it where hfopt runs, and name it in {KEEP}"
            )
    return variables


EnvironmentVariables = Annotated[dict[str, str], AfterValidator(_no_secrets)]
"""Variables of a worker, value by name. A config holds no credentials, so none of them may be one."""


class AcceleratorConfig(Config):
    """A device and the execution providers to use on it."""

    device: Literal["cpu", "gpu", "npu"] = Field("cpu", description="The kind of device.")
    execution_providers: tuple[Annotated[str, AfterValidator(_as_spelled)], ...] | None = Field(
        None, description="ONNX Runtime's names; CUDA is short for CUDAExecutionProvider; null: the device's own."
    )


class SystemConfig(Config):
    """Options that every system has."""

    accelerators: tuple[AcceleratorConfig, ...] = Field((), description="One result set each; none: the CPU.")
    hf_token: bool | None = Field(None, description="The hub's token. true: required; false: not sent; null: if any.")

    @property
    def logs_in(self) -> bool:
        """Whether its workers have a token of the hub that this machine need not have: they download from there."""
        return False


@dataclass(frozen=True)
class SystemContext:
    """What a system gets from the run.

    :param store: the artifact store's folder
    :param log: the file that takes whatever workers and their libraries print
    :param bundle: makes a folder with the packages of hfopt and its plugins, for the PYTHONPATH of a worker that has
        them not, and ``-p`` files in its ``plugin-files``; the same folder each time
    :param distributions: of hfopt and the plugins that the steps of this system may need, whose requirements hold there
    :param plugin_files: ``-p`` files, loaded by every worker
    :param offline: no worker may make a request
    :param log_levels: environment of workers that says what they log: see `hfopt.api.logs`
    :param take_in: moves the artifacts that a worker has finished in a folder on the store's file system into the store
    """

    store: Path
    log: Path
    bundle: Callable[[], Path]
    take_in: Callable[[Path], object]
    distributions: tuple[str, ...] = ()
    plugin_files: tuple[Path, ...] = ()
    offline: bool = False
    log_levels: Mapping[str, str] = field(default_factory=dict)


class System(ABC):
    """Carries lists of steps to a worker and results back."""

    Config: ClassVar[type[SystemConfig]]

    def __init__(self, config: Any, context: SystemContext) -> None:
        self.config = config
        self.context = context

    def prepare(self, progress: ReportProgress) -> None:
        """Build what must be there before a worker can start: an environment, an image. Called once, before `submit`.

        :raises HfoptError: it can't be built
        """

    @abstractmethod
    def submit(self, steps: Sequence[StepRequest], on_progress: Callable[[Progress], None]) -> list[Future[StepResult]]:
        """Run steps, or answer questions, in order; each step perhaps on results of earlier ones.

        :return: one future per step; a step's failure is a result, a lost worker fails the step it was at. The engine
            may cancel a future that is not running yet
        """

    @abstractmethod
    def cancel(self) -> None:
        """Stop what runs and drop what waits; returns within two seconds."""

    def close(self) -> None:
        """End the worker."""

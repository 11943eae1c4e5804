"""Models as data that crosses steps, and as something that runs.

A `ModelHandle` is plain data; a `Session` is an open model, made from a handle by the loader of its type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from hfopt.api.arrays import Array, Feeds
from hfopt.api.config import Configured, PlainName, ReportProgress
from hfopt.api.forecast import Weights
from hfopt.base.errors import PreconditionFailed

COMPOSITE = "CompositeModel"
"""The type of a model that is its named components, such as an encoder and a decoder."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Accelerator(_Data):
    """Where a model runs: a device and the ONNX Runtime execution provider that drives it."""

    device: str = "cpu"
    execution_provider: str = "CPUExecutionProvider"


class TensorSpec(_Data):
    """An input or output of a model.

    ``axes`` has one entry per dimension: its size, the name of a dynamic axis (``batch_size``), or such names'
    sum (``past_sequence_length + sequence_length``).
    ``dtype`` is NumPy's name (``int64``, ``float32``). ``high`` bounds the integers that make sense (exclusive): the
    vocabulary's size for input_ids, 2 for a mask. ``scale`` is how many times as long as others its dynamic axes are in
    examples: 640 samples of sound for a token. ``last`` is an integer in which every row must end, such as eos.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]
    high: int | None = None
    scale: int = 1
    last: int | None = None


class ModelHandle(_Data):
    """A model at rest: all that a later step, another process or another machine needs to open it.

    Paths are absolute in memory; the artifact store writes them relative to the artifact and restores them.
    """

    type: str = Field(description="The model loader that opens it, such as ONNXModel.")
    path: Path = Field(description="The file or folder that the loader opens.")
    files: tuple[Path, ...] = Field(description="The files that are the model: their bytes are its size.")
    companions: tuple[Path, ...] = Field((), description="Files that travel with it: tokenizer, config.json.")
    config: dict[str, Any] = Field({}, description="The loader's own settings, already validated.")
    inputs: tuple[TensorSpec, ...] = Field((), description="What the model takes, in order; empty if not known.")
    outputs: tuple[TensorSpec, ...] = Field((), description="What it returns, in order; empty if not known.")
    attributes: dict[str, Any] = Field({}, description="The Hugging Face config, as in config.json.")
    inference_settings: dict[str, Any] = Field({}, description="How a session runs it; OrtPerfTuning's result.")
    components: dict[PlainName, ModelHandle] = Field(
        {}, description="Parts of a composite model by name, which is a folder's."
    )

    def with_(self, **changes: Any) -> ModelHandle:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)

    @property
    def size_bytes(self) -> int:
        """The bytes of the model's files, those of its components included."""
        own = sum(path.stat().st_size for path in self.files)
        return own + sum(part.size_bytes for part in self.components.values())

    @property
    def every_file(self) -> list[Path]:
        """What the model consists of or travels with, its components' files included."""
        own = [self.path, *self.files, *self.companions]
        return own + [file for part in self.components.values() for file in part.every_file]


class Session(ABC):
    """An open model.

    Inputs that the data lacks (token_type_ids, position_ids, empty past_key_values) are filled in by the session; feeds
    that the model does not take are left out. Feeds that have no names are called by their position: "0", "1"...
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    example: Feeds | None = None
    """A batch that it takes, where the user has said one."""
    unwrapped: Any = None
    """What functions of the user's are given, where that is not `live`."""
    stored: Mapping[str, Callable[..., Any]] = {}
    """Weights that stay in their files and are read whenever ``live`` needs them, by parameter's name.

    Called with slices along a weight's axes (none: all of it), each reads a ``torch.Tensor``.
    """

    @property
    def rows_are_independent(self) -> bool:
        """Whether a row's outputs are the same whichever rows share its batch.

        False of a model that scales activations by what it finds in the whole batch (dynamic quantization).
        """
        return True

    @abstractmethod
    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Compute every output for one batch.

        :param feeds: arrays by input name, the batch first
        :return: arrays by output name, bfloat16 as float32
        :raises PreconditionFailed: the model does not take the feeds, or fails on them, with the runtime's reason
        """

    @abstractmethod
    def bind(self, feeds: Feeds) -> Callable[[], None]:
        """Put one batch on the device.

        :return: what is timed: runs the model on it and returns when the device has finished
        """

    def bind_next(self, feeds: Feeds) -> Callable[[], None]:
        """Put the token after a batch of texts on the device, with what the model keeps of these.

        :return: as `bind`: runs the model on that token
        :raises PreconditionFailed: it does not write text
        """
        raise PreconditionFailed("it does not write text, token by token")

    @property
    @abstractmethod
    def live(self) -> Any:
        """The ``torch.nn.Module`` or ``InferenceSession`` itself, for user functions."""

    def close(self) -> None:
        """Free what the session holds. Using it afterwards is an error."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class FetchContext:
    """What a loader gets to describe the input model."""

    folder: Path
    progress: ReportProgress


class ModelLoader(Configured):
    """Knows one type of model. Called in workers only; its module imports frameworks inside methods.

    ``preload`` names modules that opening a model imports anyway: they are imported once, without collecting garbage,
    and processes that time models start with them.
    """

    preload: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[frozenset[str]] = frozenset()
    """The types of what `fetch` may describe, or of its components; empty: the component's own name."""
    memory: ClassVar[Mapping[str, float]] = {}
    """Bytes that the libraries take which `fetch` imports, by name: for `forecast`."""

    @abstractmethod
    def fetch(self, context: FetchContext) -> ModelHandle:
        """Describe the input model that the config names, without loading its weights.

        :raises PreconditionFailed: the files are not a model of this type, or are damaged
        """

    def forecast(self) -> Weights | None:
        """What the input model is, by the headers of its files alone; None: they don't tell.

        Called in the host, without `fetch`.
        """
        return None

    @abstractmethod
    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        """Load the model.

        :param settings: overrides of ``handle.inference_settings``; ``threads`` is the number of intra-op CPU threads;
            ``brief``: few batches will be run and none is timed, so that weights may stay in their files
        :raises PreconditionFailed: the runtime refuses the model, with the runtime's reason
        """

    @classmethod
    def unavailable(cls, accelerator: Accelerator) -> str | None:
        """Why models of this type can't run on an accelerator in this environment.

        Asked in a worker of the target, before any model is there.

        :return: one sentence that says what to install, or None if they can
        """
        return None

    @classmethod
    def data_defaults(cls, config: Any) -> dict[str, Any]:
        """What a data container may take over from the input model: ``model_name``, ``task``..."""
        return {}

    def snippet(self, handle: ModelHandle) -> str:
        """Python that loads the model from the folder it is saved in, for best/README.md."""
        return ""

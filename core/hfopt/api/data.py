"""Data: prepared once, read many times, one batch in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from hfopt.api.arrays import Array, Integers
from hfopt.api.config import Config, Configured, ReportProgress
from hfopt.api.model import Session
from hfopt.base.errors import Place, Problem


@dataclass(frozen=True)
class Batch:
    """Some rows, padded to the longest among them.

    :param rows: int64 [batch], positions in the prepared data
    :param feeds: arrays by input name, each [batch, ...]
    :param labels: [batch, ...], or None if the data has none
    """

    rows: Integers
    feeds: dict[str, Array]
    labels: Array | None


@dataclass(frozen=True)
class DataContext:
    """What a container gets to prepare its data: an empty folder, and a way to say how far it is."""

    folder: Path
    progress: ReportProgress


class Dataset(ABC):
    """Prepared rows, open for reading."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        """Read in batches.

        :param rows: which rows, in this order; all in their own order if None
        :param size: rows in a batch; None: as the config states
        """

    def lengths(self) -> Integers | None:
        """The length of every row as a model gets it, [n]: rows of equal length need no padding to share a batch.

        :return: None where batches must stay as `batches` makes them: the user wrote a batch size, or rows have no
            length
        """
        return None

    def predict(self, session: Session, batch: Batch) -> Array | Sequence[Array]:
        """What an open model predicts for one batch. To be overridden by decoding loops and where outputs are ragged.

        :return: one prediction for each row, as `Statistic.rows` takes them: an array [batch, ...], or a list of arrays
            of different shapes
        """
        return self.post_process(session.run(batch.feeds))

    @abstractmethod
    def post_process(self, outputs: Mapping[str, Array]) -> Array:
        """Turn a model's outputs for one batch into predictions [batch, ...], as metrics take them."""


class DataSection(Config):
    """What an entry of ``data_configs`` may hold besides its name and type. A container may add keys."""

    params_config: dict[str, Any] = Field({}, description="The container's options.")


@dataclass(frozen=True)
class ReadData:
    """An entry of ``data_configs`` as its container understands it. Places are counted from the entry.

    :param params: to be validated by the container's ``Config``
    :param places: for each option that stands elsewhere: its place in ``params_config``, and where the user wrote it
    :param default_place: where every other mistake is reported; None: at its own place, as there is a ``params_config``
    :param problems: contradictions and the like
    """

    params: Mapping[str, Any]
    places: Mapping[Place, Place] = field(default_factory=dict)
    default_place: Place | None = None
    problems: tuple[Problem, ...] = ()

    def written_at(self, place: Place) -> Place:
        """The place in the user's config of what stands at a place in ``params_config``."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.places:
                return (*self.places[place[:length]], *place[length:])
        return place if self.default_place is None else self.default_place


class DataContainer(Configured):
    """Knows one way of loading and preprocessing data. Called in workers only.

    :cvar Config: the model of ``params_config``
    :cvar Section: the model of what an entry of ``data_configs`` may hold
    """

    Section: ClassVar[type[DataSection]] = DataSection
    memory: ClassVar[Mapping[str, float]] = {}
    """Bytes that the libraries take which `prepare` imports, by name."""

    @property
    def predicts_with_paths(self) -> bool:
        """Whether what `open` returns needs the input paths of the options, such as a script, to predict.

        Else they are not there any more.
        """
        return False

    @classmethod
    def read(cls, section: Any, defaults: Mapping[str, Any]) -> ReadData:
        """Read an entry, and fill what the user left unwritten from the input model.

        :param section: an instance of ``Section``
        :param defaults: what the input model's loader offers (``model_name``, ``task``)
        """
        return ReadData(section.params_config)

    @abstractmethod
    def prepare(self, context: DataContext) -> None:
        """Load and preprocess once, writing into ``context.folder``.

        :raises PreconditionFailed: a column that is not there, a file that is not of its format
        """

    @abstractmethod
    def open(self, folder: Path) -> Dataset:
        """Open what `prepare` wrote."""

"""Data: prepared once, read many times, one batch in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hfopt.api.arrays import Array, Integers
from hfopt.api.config import Configured, ReportProgress
from hfopt.api.model import Session


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
        """Turn a model's outputs for one batch into predictions [batch, ...] that compare with `Batch.labels`."""


class DataContainer(Configured):
    """Knows one way of loading and preprocessing data. Called in workers only.

    :cvar Config: the model of ``params_config``. However a config writes data, this is how a container gets it: what is
        written by component stands in ``component_kwargs``.
    :cvar components: the components among ``load_dataset``, ``pre_process_data``, ``post_process_data`` and
        ``dataloader`` that ``component_kwargs`` has, each with the types that a config may name for it, and why the
        container can't be had with that type; None: it can. Without any there are no options by component.
    """

    components: ClassVar[Mapping[str, Mapping[str, str | None]]] = {}

    @classmethod
    def with_defaults(cls, params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Fill what the user left unwritten from the input model.

        :param params: ``params_config``, what is written by component in its ``component_kwargs``
        :param defaults: what the input model's loader offers (``model_name``, ``task``)
        """
        return dict(params)

    @abstractmethod
    def prepare(self, context: DataContext) -> None:
        """Load and preprocess once, writing into ``context.folder``.

        :raises PreconditionFailed: a column that is not there, a file that is not of its format
        """

    @abstractmethod
    def open(self, folder: Path) -> Dataset:
        """Open what `prepare` wrote."""

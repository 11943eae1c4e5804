"""Rows of functions of the user's: what they load, preprocess or batch, as it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hfopt import Dataset, PreconditionFailed
from hfopt_data_containers.batches import Made
from hfopt_data_containers.collating import collated
from hfopt_data_containers.container import DATALOADER, LOAD, PRE
from hfopt_data_containers.loading import items_of, kind_of, made_by
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.load import Loaded, chosen, first_rows
from hfopt_hf_data.load import load as load_files
from hfopt_hf_data.messages import listed
from hfopt_hf_data.scripted import Functions
from hfopt_hf_data.source import quiet

if TYPE_CHECKING:
    import datasets


@contextmanager
def load(config: HuggingfaceContainerConfig, folder: Path) -> Iterator[Loaded]:
    """The rows that the config means: of files, or of a function that loads them.

    :param folder: for files that are needed as long as the rows are
    :raises PreconditionFailed: the function returns no rows with columns; or as `hfopt_hf_data.load.load`
    """
    if LOAD not in config.functions:
        with load_files(config, folder) as rows:
            yield rows
        return
    what, root = Functions(config).called(LOAD), None if config.data_dir is None else Path(config.data_dir)
    with TemporaryDirectory(dir=folder) as cache:
        try:
            yield Loaded(chosen(_as_dataset(_found(config, Path(cache)), what), config), root)
        except PreconditionFailed as error:
            raise PreconditionFailed(f"{what}: {error.message}", hint=error.hint) from error


def preprocessed(config: HuggingfaceContainerConfig, folder: Path) -> Iterator[Made]:
    """Batches of what the function for ``pre_process_data`` makes of a dataset, or of what another function loads."""
    functions = Functions(config)
    if LOAD in functions:
        with TemporaryDirectory(dir=folder) as cache:
            yield from batches(config, functions.call(PRE, _found(config, Path(cache))))
        return
    with load_files(config, folder) as (data, _):
        yield from batches(config, functions.call(PRE, data))


def batches(config: HuggingfaceContainerConfig, dataset: Any) -> Iterator[Made]:
    """Batches of a dataset; its dataloader may be a function.

    :param dataset: of rows, each inputs and a label: what a function returned, or `Items`
    """
    functions = Functions(config)
    if DATALOADER in functions:
        return made_by(functions.call(DATALOADER, dataset), functions.called(DATALOADER), functions.script)
    return collated(items_of(dataset, functions.called(PRE), functions.script), config.batch_size or 1)


class Items(Sequence[tuple[dict[str, Any], Any]]):
    """Prepared rows one by one, as functions take a dataset: inputs by name, and a label."""

    def __init__(self, rows: Dataset) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        (batch,) = self._rows.batches([range(len(self))[row]])
        return {name: each[0] for name, each in batch.feeds.items()}, None if batch.labels is None else batch.labels[0]


def _found(config: HuggingfaceContainerConfig, folder: Path) -> Any:
    """What the function that loads rows returns: of several splits the wanted one, of a stream its first rows."""
    import datasets

    functions = Functions(config)
    with quiet():
        found = functions.call(LOAD)
    if isinstance(found, datasets.DatasetDict | datasets.IterableDatasetDict):
        if config.split not in found:
            raise PreconditionFailed(f"returns several splits: {listed([*found])}", hint="set split to one of them")
        found = found[config.split]
    if not isinstance(found, datasets.IterableDataset):
        return found
    if config.max_samples is None:
        raise PreconditionFailed("returns a stream", hint="set max_samples: so many rows are read")
    return first_rows(found, config.max_samples, folder)


def _as_dataset(found: Any, what: str) -> datasets.Dataset:
    """What a function returned as a dataset.

    :raises PreconditionFailed: it is neither one nor dicts
    """
    import datasets

    if isinstance(found, datasets.Dataset):
        return found.with_format(None)
    rows = [*found] if hasattr(found, "__iter__") else []
    if rows and all(isinstance(row, dict) for row in rows):
        return datasets.Dataset.from_list(rows)
    raise PreconditionFailed(
        f"returns {kind_of(found)}, and the tokenizer needs rows with columns",
        hint="return a dataset or a list of dicts, or name a function for pre_process_data too",
    )

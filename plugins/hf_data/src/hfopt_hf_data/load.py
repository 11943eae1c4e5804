"""From data files to the rows that a config means, with `datasets`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from hfopt import PreconditionFailed
from hfopt_data_containers.container import PRE
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.folders import files_as_rows, table_of
from hfopt_hf_data.generation import TEXT_GENERATION
from hfopt_hf_data.limits import Limits
from hfopt_hf_data.loading import FOLDERS, FORMATS, FileOptions, splits_of
from hfopt_hf_data.messages import unknown
from hfopt_hf_data.place import Place
from hfopt_hf_data.preparing import batches_of, names_of
from hfopt_hf_data.source import Source, look_into, quiet

if TYPE_CHECKING:
    import datasets

DEFAULT_SPLIT = "validation"
_STREAMED = 1_000
"""Rows of a stream that are written at a time."""


class Loaded(NamedTuple):
    """Rows, and the folder below which files lie that they name, if they may."""

    data: datasets.Dataset
    root: Path | None


@contextmanager
def load(config: HuggingfaceContainerConfig, folder: Path) -> Iterator[Loaded]:
    """The rows of the split that the config means, at most ``max_samples``: of text generation these are sequences.

    :param folder: for files that are needed as long as the rows are
    :raises PreconditionFailed: a split or subset that is not there, files that are not of their format, or what
        `readable` refuses
    """
    source = _source(config)
    split = _split(config.split, source.files)
    files = {name: source.files[name] for name in splits_of(split)} if source.files else {"train": source.loose}
    root = None if config.data_dir is None else Path(config.data_dir)
    with TemporaryDirectory() as names, TemporaryDirectory(dir=folder) as cache, quiet() as told:
        place = Place(Path(names), Path(cache))
        if source.builder not in FOLDERS:
            data = _read(replace(source, files=files), split, place, told, config)
        elif table := table_of(files):
            source, root = table
            data = _read(source, split, place, told, config)
        else:
            data, root = files_as_rows(source, split)
        try:
            yield Loaded(chosen(data, config), root)
        except PreconditionFailed as error:
            raise PreconditionFailed(f"{place.named() or root}: {error.message}", hint=error.hint) from error


def _read(
    source: Source, split: str, place: Place, told: Sequence[str], config: HuggingfaceContainerConfig
) -> datasets.Dataset:
    """The rows of a split, as `datasets` reads its files."""
    import datasets
    import pyarrow

    features = datasets.Features.from_dict(source.features) if source.features else None
    shown = place.shown(source.files, source, Limits(config.max_bytes, config.max_field_bytes))
    try:
        data = datasets.load_dataset(
            source.builder,
            data_files=shown,
            split=split,
            cache_dir=str(place.cache),
            features=features,
            streaming=bool(config.streaming),
            **{**place.options(source), **source.options},
        )
        return first_rows(data, config.max_samples or 0, place.cache) if config.streaming else data
    except (
        datasets.exceptions.DatasetGenerationError,
        pyarrow.ArrowException,
        ArithmeticError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        raise place.failure(source.builder, error, told) from error


def first_rows(stream: datasets.IterableDataset, most: int, folder: Path) -> datasets.Dataset:
    """So many rows of a stream as a file, batch by batch: no more are read, and memory holds one of them."""
    import datasets
    import pyarrow

    file = folder / "stream.arrow"
    batches = stream.take(most).with_format("arrow").iter(_STREAMED)
    first = next(batches, None)
    if first is None:
        raise ValueError("it has no rows")
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, first.schema) as writer:
        for batch in chain([first], batches):
            writer.write_table(batch.cast(first.schema))
    features = stream.features or datasets.Features.from_arrow_schema(first.schema)
    return datasets.Dataset.from_file(str(file), info=datasets.DatasetInfo(features=features))


def chosen(data: datasets.Dataset, config: HuggingfaceContainerConfig) -> datasets.Dataset:
    """Of all rows those that the config means."""
    sequences = config.task == TEXT_GENERATION and PRE not in config.functions
    data = without(data, names_of(config.label_cols), config.labels_to_filter or ())
    most = None if sequences else config.max_samples
    return data if most is None else data.select(range(min(most, len(data))))


def without(data: datasets.Dataset, columns: Sequence[str], labels: Collection[str]) -> datasets.Dataset:
    """The rows whose label is none of these, by name or number; the first column counts.

    :raises PreconditionFailed: no label has such a name
    """
    if not labels:
        return data
    check_columns(data, columns)
    if not columns:
        raise PreconditionFailed("labels_to_filter are of a column that is not named", hint="set label_cols")
    names = getattr(data.features[columns[0]], "names", None)
    dropped = {label.casefold() for label in labels}
    kept, found = [], set()
    for start, batch in batches_of(data.select_columns([columns[0]]), 10_000):
        for row, value in enumerate(batch[columns[0]], start):
            name = str(names[value] if names and isinstance(value, int) else value).casefold()
            found.add(name) if name in dropped else kept.append(row)
    if names is None and (lost := dropped - found):
        raise PreconditionFailed(f"no row has the label {min(lost)!r}, which labels_to_filter names")
    if names is not None and (lost := [label for label in labels if label.casefold() not in map(str.casefold, names)]):
        raise unknown(f"no label is named {lost[0]!r}; there is", lost[0], names)
    return data.select(kept)


def _source(config: HuggingfaceContainerConfig) -> Source:
    """What the config means: files, a folder that is a dataset, or what `hf_dataset` fetched."""
    name = config.data_name or ""
    if name in FORMATS and config.data_files is not None:
        options = {option: getattr(config, option) for option in config.written(*FileOptions.model_fields)}
        if isinstance(config.data_files, dict):
            named = {split: [f] if isinstance(f, str) else list(f) for split, f in config.data_files.items()}
            return Source(name, named, options=options)
        loose = [config.data_files] if isinstance(config.data_files, str) else list(config.data_files)
        return Source(name, {"train": loose} if name in FOLDERS else {}, options=options, loose=loose)
    if name in FORMATS:
        found = look_into(Path(str(config.data_dir)), None, str(config.data_dir))
        if found.builder != name:
            raise PreconditionFailed(f"{config.data_dir} holds {found.builder}, not {name}")
        return found
    fetched = Source.read(Path(name))
    if fetched is not None:
        return fetched
    return look_into(Path(name), config.subset, Path(name).name)


def _split(wanted: str | None, named: Collection[str]) -> str:
    """The split to load, as `datasets` knows it.

    :param named: the splits that there are; if none has a name, all files are one split, whatever it is called
    """
    if wanted is None and len(named) == 1:
        return next(iter(named))
    pieces = []
    for piece in (wanted or DEFAULT_SPLIT).split("+"):
        name, bracket, rest = piece.partition("[")
        if named and name not in named:
            raise unknown(f"the data have no split {name!r}; they have", name, named)
        pieces.append((name if named else "train") + bracket + rest)
    return "+".join(pieces)

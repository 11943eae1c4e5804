"""From data files to the rows that a config means, with `datasets`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from hfopt import PreconditionFailed
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.files import readable
from hfopt_hf_data.folders import files_as_rows, table_of
from hfopt_hf_data.generation import TEXT_GENERATION
from hfopt_hf_data.limits import Limits
from hfopt_hf_data.loading import FOLDERS, FORMATS, splits_of
from hfopt_hf_data.messages import listed, repr_of, shortened, unknown
from hfopt_hf_data.preparing import batches_of, names_of
from hfopt_hf_data.source import Source, look_into, quiet

if TYPE_CHECKING:
    import datasets

DEFAULT_SPLIT = "validation"
_MEMORY = 64_000_000
"""Bytes of rows that are read at a time."""
_CSV_ROWS, _PARQUET_ROWS = 10_000, 100_000
"""Rows that `datasets` reads of a csv file at a time, and most that are read of a parquet file."""
_STRINGS = ("string", "large_string")


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
        place = _Place(Path(names), Path(cache))
        if source.builder not in FOLDERS:
            data = _read(replace(source, files=files), split, place, told, config)
        elif table := table_of(files):
            source, root = table
            data = _read(source, split, place, told, config)
        else:
            data, root = files_as_rows(source, split)
        try:
            most = None if config.task == TEXT_GENERATION else config.max_samples
            data = without(data, names_of(config.label_cols), config.labels_to_filter or ())
            yield Loaded(data if most is None else data.select(range(min(most, len(data)))), root)
        except PreconditionFailed as error:
            raise PreconditionFailed(f"{place.named() or root}: {error.message}", hint=error.hint) from error


def _read(
    source: Source, split: str, place: _Place, told: Sequence[str], config: HuggingfaceContainerConfig
) -> datasets.Dataset:
    """The rows of a split, as `datasets` reads its files."""
    import datasets
    import pyarrow

    features = datasets.Features.from_dict(source.features) if source.features else None
    shown = place.shown(source.files, source, Limits(config.max_bytes, config.max_field_bytes))
    try:
        return datasets.load_dataset(
            source.builder,
            data_files=shown,
            split=split,
            cache_dir=str(place.cache),
            features=features,
            **{**place.options(source), **source.options},
        )
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


class _Place:
    """Where `datasets` finds files, by names that mean nothing to it: others may be patterns or URLs, or no text.

    :param names: a folder for links
    :param cache: a folder for what is written
    """

    def __init__(self, names: Path, cache: Path) -> None:
        self._names, self._plain = names, cache / "plain"
        self._plain.mkdir()
        self.cache = names / "cache"
        self.cache.symlink_to(cache.absolute())
        self._files: dict[str, str] = {}
        self._widest = 1

    def shown(self, files: Mapping[str, Sequence[str]], source: Source, limits: Limits) -> dict[str, list[str]]:
        """The files of each split, as `datasets` is shown them."""
        return {split: [self._link(Path(file), source, limits) for file in paths] for split, paths in files.items()}

    def _link(self, file: Path, source: Source, limits: Limits) -> str:
        found = readable(file, source.builder, source.options, limits, self._plain)
        self._widest = max(self._widest, found.widest)
        link = self._names / f"{len(self._files)}.{source.builder}"
        link.symlink_to(found.path.absolute())
        self._files[str(link)] = str(file)
        return str(link)

    def options(self, source: Source) -> Mapping[str, int]:
        """What keeps memory small where rows are long: how many of them are read at a time."""
        rows = max(1, _MEMORY // self._widest)
        if source.builder == "csv" and rows < _CSV_ROWS:
            return {"chunksize": rows}
        return {"batch_size": min(rows, _PARQUET_ROWS)} if source.builder == "parquet" else {}

    def failure(self, builder: str, error: Exception, told: Sequence[str]) -> PreconditionFailed:
        """What to say of an error of `datasets`."""
        cause = error.__cause__ or error
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        links = [link for link in self._files if any(f"'{link}'" in line for line in (*told, str(error)))]
        for link, file in self._files.items():
            reason = reason.replace(link, file)
        return PreconditionFailed(f"can't read rows from {self.named(links)} as {builder}: {shortened(reason)}")

    def named(self, links: Sequence[str] = ()) -> str:
        """Files by their own names: all of them, if no links to them are given."""
        return listed([self._files[link] for link in links or self._files], 3)


def _source(config: HuggingfaceContainerConfig) -> Source:
    """What the config means: files, a folder that is a dataset, or what `hf_dataset` fetched."""
    name = config.data_name or ""
    if name in FORMATS and config.data_files is not None:
        if isinstance(config.data_files, dict):
            named = {split: [f] if isinstance(f, str) else list(f) for split, f in config.data_files.items()}
            return Source(name, named)
        loose = [config.data_files] if isinstance(config.data_files, str) else list(config.data_files)
        return Source(name, {"train": loose} if name in FOLDERS else {}, loose=loose)
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


def text_columns(data: datasets.Dataset, wanted: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The columns to tokenise: those wanted, else the only one with text besides the labels.

    :raises PreconditionFailed: a column that is not there, or more than one to choose from
    """
    check_columns(data, [*wanted, *labels])
    if wanted:
        return list(wanted)
    text = [name for name, feature in data.features.items() if getattr(feature, "dtype", None) in _STRINGS]
    found = [name for name in text if name not in labels]
    if len(found) != 1:
        raise PreconditionFailed(
            f"which column holds the text? The columns are {listed(data.column_names)}", hint="set input_cols"
        )
    return found


def check_columns(data: datasets.Dataset, columns: Sequence[str]) -> None:
    """Every column must be there.

    :raises PreconditionFailed: one is not
    """
    for name in columns:
        if name not in data.column_names:
            raise unknown(f"the data have no column {repr_of(name)}; they have", name, data.column_names)
        if not _is_plain(data.features[name]):
            kind = type(data.features[name]).__name__
            raise PreconditionFailed(f"column {repr_of(name)} holds {kind}, which is neither text nor a label")


def _is_plain(feature: Any) -> bool:
    """Whether a column's values are what the file holds: others would be opened as images, or from other files."""
    import datasets

    inner = getattr(feature, "feature", None)
    if isinstance(feature, dict | list) or inner is not None:
        parts = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else [inner]
        return all(map(_is_plain, parts))
    return isinstance(feature, datasets.Value | datasets.ClassLabel) or type(feature).__name__ == "Json"

"""From data files to the rows that a config means, with `datasets`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed
from hfopt_hf_data.config import BUILDERS, HuggingfaceContainerConfig, splits_of
from hfopt_hf_data.source import Source, look_into, quiet, unknown

if TYPE_CHECKING:
    import datasets

DEFAULT_SPLIT = "validation"
_STRINGS = ("string", "large_string")


def load(config: HuggingfaceContainerConfig, cache: str) -> datasets.Dataset:
    """The rows of the split that the config means, at most ``max_samples``.

    :param cache: a folder for files that are needed as long as the rows are
    :raises PreconditionFailed: a split or subset that is not there, files that are not of their format
    """
    import datasets

    source = _source(config)
    split = _split(config.split, source.files)
    files = {name: source.files[name] for name in splits_of(split)} if source.files else {"train": source.loose}
    features = datasets.Features.from_dict(source.features) if source.features else None
    try:
        with quiet():
            data = datasets.load_dataset(
                source.builder, data_files=files, split=split, cache_dir=cache, features=features, **source.options
            )
    except (datasets.exceptions.DatasetGenerationError, OSError, TypeError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise PreconditionFailed(f"can't read rows from the {source.builder} files: {reason}") from error
    return data if config.max_samples is None else data.select(range(min(config.max_samples, len(data))))


def _source(config: HuggingfaceContainerConfig) -> Source:
    """What the config means: files, a folder that is a dataset, or what `hf_dataset` fetched."""
    name = config.data_name or ""
    if name in BUILDERS:
        if isinstance(config.data_files, dict):
            named = {split: [f] if isinstance(f, str) else list(f) for split, f in config.data_files.items()}
            return Source(name, named)
        loose = config.data_files or ()
        return Source(name, {}, loose=[loose] if isinstance(loose, str) else list(loose))
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
            f"which column holds the text? The columns are {', '.join(data.column_names)}", hint="set input_cols"
        )
    return found


def check_columns(data: datasets.Dataset, columns: Sequence[str]) -> None:
    """Every column must be there.

    :raises PreconditionFailed: one is not
    """
    for name in columns:
        if name not in data.column_names:
            raise unknown(f"the data have no column {name!r}; they have", name, data.column_names)

"""From data files to the rows that a config means, with `datasets`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed
from hfopt.plugins import nearest
from hfopt_hf_data.config import HuggingfaceContainerConfig

if TYPE_CHECKING:
    import datasets

_DEFAULT_SPLIT = "validation"
_STRINGS = ("string", "large_string")


def load(config: HuggingfaceContainerConfig, cache: str) -> datasets.Dataset:
    """The rows of the split that the config means, at most ``max_samples``.

    :param cache: a folder for files that are needed as long as the rows are
    :raises PreconditionFailed: a split that is not there, files that are not of their format
    """
    import datasets

    files = config.data_files
    by_split = files if isinstance(files, dict) else {"train": files}
    split = _split(config.split, by_split if isinstance(files, dict) else ())
    plain = {name: list(each) if isinstance(each, tuple) else each for name, each in by_split.items()}
    try:
        with _quiet():
            data = datasets.load_dataset(config.data_name, data_files=plain, split=split, cache_dir=cache)
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise PreconditionFailed(f"no rows could be read from the {config.data_name} files: {reason}") from error
    return data if config.max_samples is None else data.select(range(min(config.max_samples, len(data))))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and reports, and without the request by which `datasets` counts how often it is used."""
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def _split(wanted: str | None, named: Collection[str]) -> str:
    """The split to load, as `datasets` knows it.

    :param named: the splits of data_files; if it names none, all files are one split, whatever it is called
    """
    if wanted is None and len(named) == 1:
        return next(iter(named))
    pieces = []
    for piece in (wanted or _DEFAULT_SPLIT).split("+"):
        name, bracket, rest = piece.partition("[")
        if named and name not in named:
            raise _unknown(f"data_files has no split {name!r}; it has", name, named)
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
            f"which column is the text? There are {', '.join(data.column_names)}", hint="set input_cols"
        )
    return found


def check_columns(data: datasets.Dataset, columns: Sequence[str]) -> None:
    """Every column must be there.

    :raises PreconditionFailed: one is not
    """
    for name in columns:
        if name not in data.column_names:
            raise _unknown(f"the data have no column {name!r}; they have", name, data.column_names)


def _unknown(fact: str, name: str, known: Collection[str]) -> PreconditionFailed:
    near = nearest(name, known)
    return PreconditionFailed(f"{fact} {', '.join(known)}", hint=f"did you mean {near!r}?" if near else None)

"""From data files to tokenised rows: loads with `datasets`, tokenises in batches, writes Arrow.

Rows are stored unpadded: how long a row is belongs to it, how far it is padded to its batch.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import DataContext, PreconditionFailed
from hfopt.plugins import nearest
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.rows import LABEL, ROWS, SETTINGS

if TYPE_CHECKING:
    import datasets
    import pyarrow
    from transformers import PreTrainedTokenizerBase

BATCH = 1_000
_DEFAULT_SPLIT = "validation"


def prepare(config: HuggingfaceContainerConfig, context: DataContext) -> None:
    """Write ``rows.arrow`` (input columns as lists of int64, label as int64) and ``settings.json`` into the folder.

    :raises PreconditionFailed: a column or split that is not there, a label that the model does not know, bad files
    """
    if config.data_name is None or config.data_files is None:
        raise PreconditionFailed("nothing to load", hint="set data_name and data_files")
    if config.model_name is None:
        raise PreconditionFailed("no tokenizer is known", hint="set model_name to a folder that has one")
    with tempfile.TemporaryDirectory(dir=context.folder) as cache:
        data = load(config, cache)
        labels = _names(config.label_cols)[:1]
        columns = _names(config.input_cols) or _only_text(data, labels)
        _check_columns(data, [*columns, *labels])
        rows = tokenised(data, columns, labels, config)
        write(rows, len(data), context)
        del data


def load(config: HuggingfaceContainerConfig, cache: str) -> datasets.Dataset:
    """The rows of the split that the config means, at most ``max_samples``."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # local files never need the hub, and `datasets` would ask it all the same
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    files = config.data_files
    by_split = files if isinstance(files, dict) else {"train": files}
    split = _split(config.split, by_split, written=not isinstance(files, dict))
    plain = {name: list(each) if isinstance(each, tuple) else each for name, each in by_split.items()}
    try:
        data = datasets.load_dataset(config.data_name, data_files=plain, split=split, cache_dir=cache)
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        raise PreconditionFailed(f"the data files can't be read as {config.option('data_name')}: {cause}") from error
    limit = config.max_samples
    return data if limit is None else data.select(range(min(limit, len(data))))


def _split(wanted: str | None, by_split: Mapping[str, Any], *, written: bool) -> str:
    """The split to load. Files that are not named by split are one split, whatever it is called."""
    name, bracket, rest = (wanted or _DEFAULT_SPLIT).partition("[")
    if written:
        return "train" + bracket + rest
    if name not in by_split:
        if wanted is None and len(by_split) == 1:
            return next(iter(by_split))
        near = nearest(name, by_split)
        raise PreconditionFailed(
            f"data_files has no split {name!r}; it has {', '.join(by_split)}", hint=near and f"did you mean {near!r}?"
        )
    return name + bracket + rest


def _names(columns: str | Sequence[str] | None) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or ())


def _only_text(data: datasets.Dataset, labels: Sequence[str]) -> list[str]:
    """The one column of strings besides the labels, where the config names none."""
    strings = ("string", "large_string")
    text = [name for name, feature in data.features.items() if getattr(feature, "dtype", None) in strings]
    found = [name for name in text if name not in labels]
    if len(found) != 1:
        raise PreconditionFailed(
            f"which column is the text? There are {', '.join(data.column_names)}", hint="set input_cols"
        )
    return found


def _check_columns(data: datasets.Dataset, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in data.column_names:
            near = nearest(name, data.column_names)
            raise PreconditionFailed(
                f"the data have no column {name!r}; they have {', '.join(data.column_names)}",
                hint=f"did you mean {near!r}?" if near else None,
            )


def tokenised(
    data: datasets.Dataset, columns: Sequence[str], labels: Sequence[str], config: HuggingfaceContainerConfig
) -> Iterator[tuple[dict[str, list[Any]], dict[str, Any]]]:
    """Batches of columns to write, each with the settings that reading them needs."""
    from transformers import AutoTokenizer, logging

    logging.set_verbosity_error()
    folder = Path(config.model_name)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    number_of = _label_numbers(folder) if labels else None
    settings = {"padding": {"input_ids": tokenizer.pad_token_id or 0}, "side": tokenizer.padding_side}
    for start in range(0, len(data), BATCH):
        batch = data[start : start + BATCH]
        encoded = _encode(tokenizer, [batch[name] for name in columns], config)
        if number_of is not None:
            encoded[LABEL] = [number_of(label) for label in batch[labels[0]]]
        yield encoded, settings


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[Any]], config: HuggingfaceContainerConfig
) -> dict[str, list[Any]]:
    limit = config.max_length
    if limit is None and tokenizer.model_max_length < 10**9:
        limit = tokenizer.model_max_length
    cut = config.truncation and limit is not None
    encoded = tokenizer(
        *(list(column) for column in texts),
        padding=False,
        truncation=cut,
        max_length=limit if cut else None,
        add_special_tokens=config.add_special_tokens,
        is_split_into_words=config.is_split_into_words,
    )
    return {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}


def _label_numbers(folder: Path) -> Callable[[Any], int]:
    """Labels as the model counts them: integers stay, names are looked up in its config."""
    numbers = json.loads((folder / "config.json").read_text("utf-8")).get("label2id") or {}

    def number(label: Any) -> int:
        if isinstance(label, int):
            return int(label)
        if label in numbers:
            return int(numbers[label])
        known = ", ".join(numbers) or "none"
        raise PreconditionFailed(f"label {label!r} is not one of the model's; they are {known}")

    return number


def write(rows: Iterator[tuple[dict[str, list[Any]], dict[str, Any]]], total: int, context: DataContext) -> None:
    """Write batches one by one: memory holds one of them."""
    import pyarrow

    writer, settings, done = None, {}, 0
    try:
        for columns, settings in rows:  # noqa: B007 - the same settings come with every batch
            batch = _record_batch(columns)
            if writer is None:
                writer = pyarrow.ipc.new_file(str(context.folder / ROWS), batch.schema)
            writer.write_batch(batch)
            done += batch.num_rows
            context.progress("tokenise", done, total)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise PreconditionFailed("the data have no rows")
    (context.folder / SETTINGS).write_text(json.dumps(settings, sort_keys=True), "utf-8")


def _record_batch(columns: Mapping[str, list[Any]]) -> pyarrow.RecordBatch:
    import pyarrow

    types = {name: pyarrow.int64() if name == LABEL else pyarrow.list_(pyarrow.int64()) for name in columns}
    return pyarrow.RecordBatch.from_arrays(
        [pyarrow.array(values, types[name]) for name, values in columns.items()], names=list(columns)
    )

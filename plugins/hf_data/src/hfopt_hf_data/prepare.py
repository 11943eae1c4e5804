"""From data files to tokenised rows: loads, tokenises in batches, writes Arrow.

Rows are stored unpadded: padding depends on the batch. The same data give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import DataContext, PreconditionFailed
from hfopt.api.files import read_json
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.labels import class_of
from hfopt_hf_data.load import load, text_columns
from hfopt_hf_data.rows import LABEL, PADDING, ROWS
from hfopt_hf_data.tokenise import Tokeniser

if TYPE_CHECKING:
    import datasets

    Columns = dict[str, list[Any]]

BATCH, BATCH_BYTES = 1_000, 8_000_000
"""Rows that are tokenised at a time: so many, or fewer where they are long, as tokens take far more memory."""


def prepare(config: HuggingfaceContainerConfig, context: DataContext) -> None:
    """Write ``rows.arrow`` (inputs as lists of int32, ``label`` as int64) and ``padding.json`` into the folder.

    :raises PreconditionFailed: a tokenizer, file, split or column that is not there or not what it should be, a text
        that is none, a label that the model does not know
    """
    if config.model_name is None:
        raise PreconditionFailed("the input model has no tokenizer", hint="set model_name to a folder that has one")
    model = Path(config.model_name)
    attributes = _attributes(model)
    tokeniser = Tokeniser(config, model, attributes)
    padding = tokeniser.padding
    with load(config, context.folder) as data:
        labels = _names(config.label_cols)[:1]
        texts = text_columns(data, _names(config.input_cols), labels)
        rows = _rows(data.select_columns([*texts, *labels]), texts, labels, tokeniser, attributes)
        _write(rows, len(data), context)
    (context.folder / PADDING).write_text(json.dumps(padding, sort_keys=True), "utf-8")


def _attributes(model: Path) -> dict[str, Any]:
    """config.json; nothing where there is only a tokenizer."""
    file = model / "config.json"
    attributes: dict[str, Any] = read_json(file) if file.exists() else {}
    return attributes


def _names(columns: str | Sequence[str] | None) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or ())


def _rows(
    data: datasets.Dataset,
    texts: Sequence[str],
    labels: Sequence[str],
    tokeniser: Tokeniser,
    attributes: Mapping[str, Any],
) -> Iterator[Columns]:
    """Batches of the columns to write."""
    start, table = 0, data.data
    while start < len(data):
        size = BATCH
        while size > 1 and table.slice(start, size).nbytes > BATCH_BYTES:
            size //= 2
        try:
            batch = data[start : start + size]
        except UnicodeDecodeError as error:
            rows = f"rows {start} to {min(start + size, len(data)) - 1}"
            raise PreconditionFailed(f"{rows} hold a text that is not UTF-8") from error
        columns: Columns = {**tokeniser.encode({name: list(batch[name]) for name in texts}, start)}
        for name in labels:
            columns[LABEL] = [class_of(label, row, attributes) for row, label in enumerate(batch[name], start)]
        yield columns
        start += size


def _write(rows: Iterator[Columns], total: int, context: DataContext) -> None:
    """Write batches one by one: memory holds one of them."""
    import pyarrow

    first = next(rows, None)
    if first is None:
        raise PreconditionFailed("the data have no rows")
    types = {name: pyarrow.int64() if name == LABEL else pyarrow.list_(pyarrow.int32()) for name in first}
    schema = pyarrow.schema(types)
    done = 0
    with pyarrow.ipc.new_file(str(context.folder / ROWS), schema) as writer:
        for columns in chain([first], rows):
            batch = pyarrow.record_batch([pyarrow.array(columns[name], types[name]) for name in types], schema=schema)
            writer.write_batch(batch)
            done += batch.num_rows
            context.progress("tokenise", done, total)

"""From data files to tokenised rows: loads, tokenises in batches, writes Arrow.

Rows are stored unpadded: padding depends on the batch. The same data give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import DataContext, PreconditionFailed
from hfopt.api.files import read_json
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.corpus import Tokens
from hfopt_hf_data.generation import TEXT_GENERATION
from hfopt_hf_data.labels import Reader, reader
from hfopt_hf_data.load import load, text_columns
from hfopt_hf_data.next_tokens import IDS, SEEN
from hfopt_hf_data.rows import LABEL, PADDING, ROWS
from hfopt_hf_data.sequences import batches_of, longest, sequences
from hfopt_hf_data.tokenise import Tokeniser, open_tokenizer

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    Columns = dict[str, list[Any]]

BATCH = 1_000
"""Rows that are tokenised at a time, at most."""


def prepare(config: HuggingfaceContainerConfig, context: DataContext) -> None:
    """Write ``rows.arrow`` (inputs as lists of int32, ``label``) and ``padding.json`` into the folder.

    :raises PreconditionFailed: a tokenizer, file, split or column that is not there or not what it should be, a text
        that is none, a label that the model does not know
    """
    if config.model_name is None:
        raise PreconditionFailed("the input model has no tokenizer", hint="set model_name to a folder that has one")
    model = Path(config.model_name)
    attributes = _attributes(model)
    if config.task == TEXT_GENERATION:
        padding = _write_sequences(config, open_tokenizer(model), attributes, context)
    else:
        padding = _write_classified(config, Tokeniser(config, model, attributes), attributes, context)
    (context.folder / PADDING).write_text(json.dumps(padding, sort_keys=True), "utf-8")


def _write_classified(
    config: HuggingfaceContainerConfig, tokeniser: Tokeniser, attributes: Mapping[str, Any], context: DataContext
) -> dict[str, Any]:
    """Write texts and their classes.

    :return: how they are padded
    """
    padding = tokeniser.padding
    with load(config, context.folder) as data:
        labels = _names(config.label_cols)
        texts = text_columns(data, _names(config.input_cols), labels)
        read = reader({name: data.features[name] for name in labels}, attributes) if labels else None
        rows = _rows(data.select_columns([*texts, *labels]), texts, labels, tokeniser, read)
        _write(_told(rows, len(data), context), context.folder, read)
    return padding


def _write_sequences(
    config: HuggingfaceContainerConfig,
    tokenizer: PreTrainedTokenizerBase,
    attributes: Mapping[str, Any],
    context: DataContext,
) -> dict[str, Any]:
    """Write sequences of tokens, and how many of the first are context where that is not 0 for all.

    :return: how they are padded
    """
    with load(config, context.folder) as data:
        found = sequences(data, config, tokenizer, attributes, context.progress)
        _write(
            _columns(found, seen=config.dataset_type == "pair" or config.corpus_strategy == "join-sliding-window"),
            context.folder,
        )
    fillers = [each for each in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if each is not None]
    width = longest(config) if config.pad_to_max_len else None
    return {"fillers": {IDS: fillers[0]}, "side": tokenizer.padding_side, "width": width}


def _columns(found: Iterator[Tokens], *, seen: bool) -> Iterator[Columns]:
    while batch := [*islice(found, BATCH)]:
        yield {IDS: [each.ids for each in batch], **({SEEN: [each.seen for each in batch]} if seen else {})}


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
    read: Reader | None,
) -> Iterator[Columns]:
    """Batches of the columns to write."""
    for start, batch in batches_of(data, BATCH):
        columns: Columns = {**tokeniser.encode({name: batch[name] for name in texts}, start)}
        if read is not None:
            values = zip(*(batch[name] for name in labels), strict=True)
            columns[LABEL] = [read.read(each, row) for row, each in enumerate(values, start)]
        yield columns


def _told(rows: Iterator[Columns], total: int, context: DataContext) -> Iterator[Columns]:
    """The same batches; once one is written, it is said."""
    done = 0
    for columns in rows:
        yield columns
        done += len(next(iter(columns.values())))
        context.progress("tokenise", done, total)


def _write(rows: Iterator[Columns], folder: Path, read: Reader | None = None) -> None:
    """Write batches one by one: memory holds one of them.

    :param read: how labels were read, if there are some
    """
    import pyarrow

    first = next(rows, None)
    if first is None:
        raise PreconditionFailed("the data have no rows")
    types = dict.fromkeys(first, pyarrow.list_(pyarrow.int32())) | ({SEEN: pyarrow.int32()} if SEEN in first else {})
    if read is not None:
        of_kind = {"class": pyarrow.int64(), "number": pyarrow.float64(), "labels": pyarrow.list_(pyarrow.int8())}
        types[LABEL] = of_kind[read.kind]
    schema = pyarrow.schema(types)
    with pyarrow.ipc.new_file(str(folder / ROWS), schema) as writer:
        for columns in chain([first], rows):
            batch = pyarrow.record_batch([pyarrow.array(columns[name], types[name]) for name in types], schema=schema)
            writer.write_batch(batch)

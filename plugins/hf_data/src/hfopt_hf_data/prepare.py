"""From data files to prepared rows: loads them, has the task's module prepare them in batches, writes Arrow.

Rows are stored unpadded: padding depends on the batch. The same data give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hfopt import DataContext, PreconditionFailed
from hfopt.api.files import read_json
from hfopt_data_containers.batches import write
from hfopt_data_containers.container import DATALOADER, PRE
from hfopt_hf_data import function_rows
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.preparing import Columns, Given, Prepared
from hfopt_hf_data.rows import LAYOUT, ROWS
from hfopt_hf_data.scripted import Functions
from hfopt_hf_data.tasks import TASKS, TEXT_CLASSIFICATION


def prepare(config: HuggingfaceContainerConfig, context: DataContext) -> None:
    """Write rows into a folder: batches that functions of the user's make, or what the task's module prepares.

    :raises PreconditionFailed: what a function returns can't be used; or as `_prepare_rows`
    """
    if config.functions:
        Functions(config).check()
    if PRE in config.functions:
        write(function_rows.preprocessed(config, context.folder), context.folder, context.progress)
    elif DATALOADER in config.functions:
        task = TASKS[config.task or TEXT_CLASSIFICATION]
        with TemporaryDirectory(dir=context.folder) as folder:
            _prepare_rows(config, replace(context, folder=Path(folder)))
            rows = function_rows.Items(task.load(task.reader)(Path(folder), config))
            write(function_rows.batches(config, rows), context.folder, context.progress)
    else:
        _prepare_rows(config, context)


def _prepare_rows(config: HuggingfaceContainerConfig, context: DataContext) -> None:
    """Write ``rows.arrow`` (inputs as lists, ``label``) and ``layout.json`` into the folder.

    :raises PreconditionFailed: a tokenizer, file, split or column that is not there or not what it should be, a text
        that is none, a label that the model does not know
    """
    if config.model_name is None:
        raise PreconditionFailed("the input model has no tokenizer", hint="set model_name to a folder that has one")
    model, task = Path(config.model_name), TASKS[config.task or TEXT_CLASSIFICATION]
    attributes = _attributes(model)
    processor = task.load(task.opens)(config, model, attributes)
    with function_rows.load(config, context.folder) as (data, root):
        given = Given(data, config, processor, attributes, context.progress, context.folder, root)
        prepared: Prepared = task.load(task.prepare)(given)
        _write(prepared.rows, prepared.kinds, context.folder)
    (context.folder / LAYOUT).write_text(json.dumps(prepared.layout, sort_keys=True), "utf-8")


def _attributes(model: Path) -> dict[str, Any]:
    """config.json; nothing where there is only a tokenizer."""
    file = model / "config.json"
    attributes: dict[str, Any] = read_json(file) if file.exists() else {}
    return attributes


def _types() -> dict[str, Any]:
    """Arrow's type of each kind of column."""
    from pyarrow import float32, float64, int8, int32, int64, list_, string

    return {
        "ids": list_(int32()),
        "groups": list_(list_(int32())),
        "place": int32(),
        "class": int64(),
        "labels": list_(int8()),
        "number": float64(),
        "numbers": list_(float32()),
        "text": string(),
        "texts": list_(string()),
    }


def _write(rows: Iterator[Columns], kinds: Mapping[str, str], folder: Path) -> None:
    """Write batches one by one: memory holds one of them."""
    import pyarrow

    first = next(rows, None)
    if first is None:
        raise PreconditionFailed("the data have no rows")
    known = _types()
    types = {name: known[kinds.get(name, "ids")] for name in first}
    schema = pyarrow.schema(types)
    with pyarrow.ipc.new_file(str(folder / ROWS), schema) as writer:
        for columns in chain([first], rows):
            arrays = [pyarrow.array(columns[name], kind) for name, kind in types.items()]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))

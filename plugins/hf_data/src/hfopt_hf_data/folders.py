"""Folders of images or sounds: the files are the rows, or a table beside them says what each is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_data.loading import FOLDERS
from hfopt_hf_data.source import Source

if TYPE_CHECKING:
    import datasets

METADATA: Mapping[str, str] = {"metadata.csv": "csv", "metadata.jsonl": "json", "metadata.parquet": "parquet"}
FILE_NAME, LABEL = "file_name", "label"


def table_of(files: Mapping[str, Sequence[str]]) -> tuple[Source, Path] | None:
    """The table that describes the files, and the folder in which they lie; None if there is no table.

    :param files: by split
    :raises PreconditionFailed: there are several tables
    """
    found = sorted({path for paths in files.values() for path in paths if Path(path).name in METADATA})
    if not found:
        return None
    if len(found) > 1:
        raise PreconditionFailed(f"there are several tables of files: {', '.join(found)}", hint="name one split")
    table = Path(found[0])
    return Source(METADATA[table.name], dict.fromkeys(files, found)), table.parent


def files_as_rows(source: Source, split: str) -> tuple[datasets.Dataset, Path]:
    """A folder's files, and the names of the folders that they are in as their labels if there are several.

    :param split: as `datasets` writes it
    :return: rows, and the folder below which the files lie
    """
    import datasets

    files, column = source.files, FOLDERS[source.builder]
    root = Path(os.path.commonpath([os.path.dirname(path) for paths in files.values() for path in paths]))
    parts = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(paths) for name, paths in files.items()})
    chosen = [path for part in parts for path in files[part.splitname][part.from_ : part.to]]
    names = sorted({Path(path).parent.name for paths in files.values() for path in paths})
    rows: dict[str, list[Any]] = {column: [os.path.relpath(path, root) for path in chosen]}
    features: dict[str, Any] = {column: datasets.Value("string")}
    if len(names) > 1:
        rows[LABEL] = [Path(path).parent.name for path in chosen]
        features[LABEL] = datasets.ClassLabel(names=names)
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features)), root

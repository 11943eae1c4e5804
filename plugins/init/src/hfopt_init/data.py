"""What is in a data file: its columns, and which of them hold texts and labels, from its first rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from hfopt import PreconditionFailed, UsageError
from hfopt.api.files import regular_file

ROWS = 1_000
"""That are looked at."""
LONGEST, WHOLE = 10_000_000, 100_000_000
"""Characters of a line, and of a file that is read whole."""
FORMATS: Mapping[str, str] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
PAIRS = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "document"),
    ("query", "passage"),
)
"""Columns that belong together, first sentence first."""
TEXTS = ("text", "sentence", "content", "review", "document", "body", "comment", "message", "tweet", "title")
LABELS = ("label", "labels", "target", "class", "sentiment", "category", "gold_label", "y")


@dataclass(frozen=True)
class Data:
    """A data file.

    :param format: as ``data_name`` calls it
    :param columns: the values of the first rows, by column
    """

    file: Path
    format: str
    columns: Mapping[str, Sequence[Any]]


def look_at_data(file: Path) -> Data:
    """Read the first rows.

    :raises UsageError: there is no such file, it is of no known format, can't be read, or has no rows
    """
    try:
        regular_file(file)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {file}") from error
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from error
    except PreconditionFailed as error:
        raise UsageError(error.message, hint="name one file of data") from error
    kind = FORMATS.get(file.suffix.lower())
    if kind is None:
        raise UsageError(f"{file}: its format is unknown", hint=f"name a file that ends with {', '.join(FORMATS)}")
    try:
        rows = list(islice(_READERS[kind](file), ROWS))
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8", hint="save it as UTF-8") from error
    except (OSError, RecursionError, ValueError, csv.Error) as error:
        raise UsageError(f"{file} can't be read as {kind}: {str(error).partition(chr(10))[0][:300]}") from error
    if not rows:
        raise UsageError(f"{file} has no rows")
    names = dict.fromkeys(name for row in rows for name in row)
    return Data(file, kind, {name: [row.get(name) for row in rows] for name in names})


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(LONGEST)
    with open(file, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(_lines(stream), restkey="", strict=True)
        names = reader.fieldnames or []
        if len(names) == 1 and any(mark in names[0] for mark in "\t;|"):
            raise ValueError("its columns are not separated by commas")
        if len(set(names)) < len(names) or "" in names:
            raise ValueError("its first line does not name every column once")
        for row in reader:
            if "" in row:
                raise ValueError(f"line {reader.line_num} has more fields than the first line names")
            yield row


def _lines(stream: TextIO) -> Iterator[str]:
    while line := stream.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise ValueError(f"it has a line of more than {LONGEST:,} characters")
        yield line


def _json(file: Path) -> Iterator[dict[str, Any]]:
    with open(file, encoding="utf-8-sig") as stream:
        start = stream.read(WHOLE)
        if start.lstrip().startswith("["):
            if stream.read(1):
                raise ValueError(f"it is one array of more than {WHOLE:,} characters; write an object on each line")
            values: Iterable[Any] = json.loads(start)
        else:
            stream.seek(0)
            values = (json.loads(line) for line in _lines(stream) if not line.isspace())
        for value in values:
            if not isinstance(value, dict):
                raise ValueError("it holds other things than objects, one for each row")
            yield value


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise UsageError(f"{file}: nothing reads parquet here", hint="pip install ./plugins/hf_data") from error
    try:
        with parquet.ParquetFile(file) as opened:
            first = opened.metadata.row_group(0) if opened.metadata.num_row_groups else None
            sizes = [first.column(at).total_uncompressed_size for at in range(first.num_columns)] if first else []
            for batch in opened.iter_batches(batch_size=max(1, min(ROWS, WHOLE // max([1, *sizes])))):
                yield from batch.to_pylist()
    except (ArrowException, OverflowError) as error:  # the latter of dates that Python does not have
        raise ValueError(str(error)) from error


_READERS = {"csv": _csv, "json": _json, "parquet": _parquet}


def text_columns(data: Data, label: str | None) -> list[str]:
    """The columns of text: a pair, one by its name, or the one with the longest texts; none if no column has any.

    :param label: is none of them
    """
    texts = {name: values for name, values in data.columns.items() if name != label and _is_text(values)}
    by_name = {name.casefold(): name for name in texts}
    for pair in PAIRS:
        if by_name.keys() >= set(pair):
            return [by_name[name] for name in pair]
    for name in TEXTS:
        if name in by_name:
            return [by_name[name]]
    if not texts:
        return []
    return [max(texts, key=lambda name: sum(len(value) for value in texts[name]))]


def _is_text(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values) and any(not _is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def label_column(data: Data, labels: Sequence[str], classes: int) -> tuple[str | None, str | None]:
    """The column of a model's classes, by name or number.

    :param labels: the classes' names, empty if they have none
    :param classes: how many there are
    :return: the column, and if there is none, why not, as far as one looked like it
    """
    wrong = {name: _no_classes(values, labels, classes) for name, values in data.columns.items()}
    by_name = {name.casefold(): name for name in data.columns}
    likely = [by_name[name] for name in LABELS if name in by_name]
    for name in likely:
        if not wrong[name]:
            return name, None
    if likely:
        return None, f"column {likely[0]!r} holds {wrong[likely[0]][0]!r}"
    fitting = [name for name, values in data.columns.items() if not wrong[name] and len({*map(str, values)}) > 1]
    return (fitting[0], None) if len(fitting) == 1 else (None, None)


def _no_classes(values: Sequence[Any], labels: Sequence[str], classes: int) -> list[Any]:
    """Those values that are no class of the model's: neither all names of classes, nor their numbers."""
    numbers = {str(number) for number in range(classes)}
    if {*map(str, values)} <= {*labels} - {""}:
        return []
    return [value for value in values if isinstance(value, bool) or str(value) not in numbers]

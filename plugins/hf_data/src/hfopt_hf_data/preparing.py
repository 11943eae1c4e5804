"""What the preparation of a task is given, and what it yields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfopt import PreconditionFailed
from hfopt.api.config import ReportProgress
from hfopt_hf_data.config import HuggingfaceContainerConfig

if TYPE_CHECKING:
    import datasets

Columns = dict[str, list[Any]]
BATCH = 1_000
"""Rows that are prepared at a time, at most."""
BATCH_BYTES = 8_000_000
"""Fewer rows are read at a time where they are long, as tokens take far more memory."""


@dataclass(frozen=True)
class Given:
    """Loaded rows, and the model that they are for.

    :param processor: the model's, as the task opens it
    :param attributes: the model's config.json
    :param folder: where what else is kept goes
    :param root: below which files lie that rows name
    """

    data: datasets.Dataset
    config: HuggingfaceContainerConfig
    processor: Any
    attributes: Mapping[str, Any]
    progress: ReportProgress
    folder: Path
    root: Path | None

    def batches(self, columns: Sequence[str], size: int = BATCH) -> Iterator[tuple[int, Columns]]:
        """Rows by column, and the first one's number. When the next ones are asked for, these are told as done."""
        for start, batch in batches_of(self.data.select_columns(list(dict.fromkeys(columns))), size):
            yield start, batch
            self.progress("tokenise", start + len(batch[columns[0]]), len(self.data))


class Prepared(NamedTuple):
    """What is written: rows in batches, and what there is to know to read them.

    :param kinds: of columns that are not lists of ids, as `hfopt_hf_data.prepare.TYPES` has them
    :param layout: JSON, as `hfopt_hf_data.rows.Rows` describes it
    """

    rows: Iterator[Columns]
    layout: Mapping[str, Any]
    kinds: Mapping[str, str] = {}


def batches_of(data: datasets.Dataset, size: int) -> Iterator[tuple[int, Columns]]:
    """Rows by column, and the first one's number."""
    start, table = 0, data.data
    while start < len(data):
        step = size
        while step > 1 and table.slice(start, step).nbytes > BATCH_BYTES:
            step = -(-step // 2)
        try:
            batch = data[start : start + step]
        except UnicodeDecodeError as error:
            rows = f"rows {start} to {min(start + step, len(data)) - 1}"
            raise PreconditionFailed(f"{rows} hold a text that is not UTF-8") from error
        yield start, {name: list(values) for name, values in batch.items()}
        start += step


def names_of(columns: str | Sequence[str] | None) -> list[str]:
    """Columns as the config writes them: one, several or none."""
    return [columns] if isinstance(columns, str) else list(columns or ())

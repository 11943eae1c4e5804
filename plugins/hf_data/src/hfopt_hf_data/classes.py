"""Texts, or pairs of them, with a class, several labels or a number each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hfopt_hf_data.columns import check_columns, text_columns
from hfopt_hf_data.labels import Reader, reader
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL


def prepare(given: Given) -> Prepared:
    """Token ids, and labels where the config names a column of them."""
    tokeniser, labels = given.processor, Labels(given)
    texts = text_columns(given.data, names_of(given.config.input_cols), labels.columns)

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([*texts, *labels.columns]):
            encoded = tokeniser.encode({name: batch[name] for name in texts}, start)
            yield {**encoded, **labels.of(batch, start)}

    return Prepared(rows(), tokeniser.layout, labels.kinds)


class Labels:
    """The labels that ``label_cols`` names, as the model counts them; none if it names no column."""

    def __init__(self, given: Given) -> None:
        self.columns: Sequence[str] = names_of(given.config.label_cols)
        check_columns(given.data, self.columns)
        types = {name: given.data.features[name] for name in self.columns}
        self._read: Reader | None = reader(types, given.attributes) if types else None

    @property
    def kinds(self) -> dict[str, str]:
        """What kind of column they are."""
        return {} if self._read is None else {LABEL: self._read.kind}

    def of(self, batch: Columns, start: int) -> Columns:
        """Of a batch of rows; the number of the first one is for messages."""
        if self._read is None:
            return {}
        values: Iterator[tuple[Any, ...]] = zip(*(batch[name] for name in self.columns), strict=True)
        return {LABEL: [self._read.read(each, row) for row, each in enumerate(values, start)]}

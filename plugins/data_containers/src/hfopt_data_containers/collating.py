"""Rows of a dataset, put together into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.arrays import Array
from hfopt_data_containers.batches import Made
from hfopt_data_containers.loading import array_of

_LABELS = ("label", "labels")


def collated(rows: Iterator[Any], size: int) -> Iterator[Made]:
    """Batches of rows: of each input one array [rows, ...].

    :param rows: each is inputs and label, or a mapping that may hold the label under that name
    :param size: rows in a batch; the last may have fewer
    :raises PreconditionFailed: rows of one batch have different inputs or shapes
    """
    start = 0
    while some := [_parts(row) for row in islice(rows, size)]:
        first = some[0][0]
        for number, (inputs, _) in enumerate(some, start):
            if inputs.keys() != first.keys():
                raise PreconditionFailed(f"row {number} has {', '.join(inputs)}, and row {start} {', '.join(first)}")
        feeds = {name: _stacked([inputs[name] for inputs, _ in some], name, start) for name in first}
        labels = [label for _, label in some if label is not None]
        yield Made(feeds, _stacked(labels, "label", start) if len(labels) == len(some) else None)
        start += len(some)


def _parts(row: Any) -> tuple[Mapping[str, Any], Any]:
    inputs, label = row if isinstance(row, tuple | list) and len(row) == 2 else (row, None)
    if not isinstance(inputs, Mapping):
        several = inputs if isinstance(inputs, tuple | list) else [inputs]
        return {str(position): each for position, each in enumerate(several)}, label
    found = next((inputs[name] for name in _LABELS if name in inputs), None) if label is None else label
    return {str(name): each for name, each in inputs.items() if name not in _LABELS}, found


def _stacked(values: list[Any], name: str, start: int) -> Array:
    import numpy as np

    arrays = [array_of(each, f"row {row}: {name}") for row, each in enumerate(values, start)]
    if len({each.shape for each in arrays}) > 1:
        shapes = " and ".join(str([*shape]) for shape in sorted({each.shape for each in arrays}))
        hint = "set batch_size to 1, or name a dataloader that pads"
        raise PreconditionFailed(f"rows that share a batch have {name} of different shapes: {shapes}", hint=hint)
    return np.stack(arrays)

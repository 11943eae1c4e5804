"""How a predict step's artifact holds what a model said of every row, beside the row's label.

An array where all rows are of one shape; else all values in one row, with each row's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hfopt.api.arrays import Array

FILE = "predictions.npz"


def write(folder: Path, predictions: Sequence[Any], labels: Sequence[Any] | None) -> None:
    """Write one prediction, and perhaps one label, for each row."""
    import numpy as np

    columns = _packed("predictions", predictions) | ({} if labels is None else _packed("labels", labels))
    np.savez(folder / FILE, allow_pickle=False, **columns)


def read(folder: Path) -> tuple[Array, Array | None]:
    """Predictions and labels: arrays [n, ...], or [n] of arrays where shapes differ; None without labels."""
    import numpy as np

    with np.load(folder / FILE) as columns:
        labelled = any(name.startswith("labels") for name in columns)
        return _unpacked("predictions", columns), _unpacked("labels", columns) if labelled else None


def _packed(name: str, rows: Sequence[Any]) -> dict[str, Array]:
    import numpy as np

    arrays = [np.asarray(row) for row in rows]
    if all(array.shape == arrays[0].shape for array in arrays):
        return {name: np.stack(arrays)}
    values = np.concatenate([array.reshape(-1) for array in arrays])
    return {f"{name}.values": values, f"{name}.shapes": np.array([array.shape for array in arrays])}


def _unpacked(name: str, columns: Mapping[str, Array]) -> Array:
    import numpy as np

    if name in columns:
        return columns[name]
    shapes, values = columns[f"{name}.shapes"], columns[f"{name}.values"]
    parts = np.split(values, np.cumsum(shapes.prod(axis=1))[:-1])
    rows = np.empty(len(parts), dtype=object)
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        rows[number] = part.reshape(shape)
    return rows

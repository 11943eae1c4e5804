"""Example inputs from a model's input specs: for tracing, parity checks, and timing without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from hfopt.api.arrays import Array
from hfopt.api.model import TensorSpec

MASK = "attention_mask"
BOXES = "bbox"
BATCH_AXIS = "batch_size"
PAST_AXIS = "past_sequence_length"


def example_feeds(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], *, padded: bool = False, seed: int = 0
) -> dict[str, Array]:
    """Inputs that a model accepts: random ids below each spec's ``high``, standard normal floats, masks of ones,
    boxes whose right is not left of their left.

    :param sizes: of the dynamic axes, by name (``{"batch_size": 2, "sequence_length": 16}``); an axis may be the sum of
        others (``past_sequence_length + sequence_length``)
    :param padded: rows of the mask end or begin in zeros, in turn, each with another number of them (the first: none)
    :return: arrays by input name
    :raises KeyError: a dynamic axis has no size
    """
    import numpy as np

    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in specs:
        many = {axis: size if axis == BATCH_AXIS else size * spec.scale for axis, size in sizes.items()}
        shape = tuple(a if isinstance(a, int) else sum(many[part] for part in a.split(" + ")) for a in spec.axes)
        if spec.name.endswith(MASK):
            feeds[spec.name] = (_padded_mask(shape) if padded else np.ones(shape)).astype(spec.dtype)
        elif np.issubdtype(np.dtype(spec.dtype), np.floating):
            feeds[spec.name] = random.standard_normal(shape).astype(spec.dtype)
        else:
            ids = random.integers(0, spec.high or 2, shape)
            if spec.last is not None:
                ids[ids == spec.last] -= 1 if spec.last else -1
                ids[..., -1] = spec.last
            if spec.name == BOXES:
                ids.sort()  # left, top, right, bottom
            feeds[spec.name] = ids.astype(spec.dtype)
    return feeds


def _padded_mask(shape: tuple[int, ...]) -> Array:
    """True where a token is, [..., length]: row i of the flattened batch ends (i odd) or begins (i even) in i pads."""
    import numpy as np

    *batch, length = shape
    row, place = np.arange(prod(batch)).reshape(*batch, 1), np.arange(length)
    pads = np.minimum(row, length - 1)
    return np.where(row % 2, place < length - pads, place >= pads)

"""Do two models compute the same? Compared on several shapes, with batches and padded rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt.api.example import BATCH_AXIS, MASK, example_feeds
from hfopt.api.model import Session, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES: tuple[tuple[int, int, bool], ...] = ((1, 7, False), (2, 16, False), (4, 21, True))
"""Batch size, size of every other dynamic axis, padded rows: of four, one begins and two end in padding."""

RELATIVE, ABSOLUTE = 1e-4, 1e-5
HALF_RELATIVE = 1e-2
"""For models that compute in float16."""


@dataclass(frozen=True)
class Example:
    """One batch, and what the source computes of it."""

    feeds: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]


def compare_sessions(
    source: Session, candidate: Session, specs: Sequence[TensorSpec], *, relative: float = RELATIVE
) -> dict[str, Any]:
    """Compare two open models: `record`, then `compare`."""
    return compare(record(source, specs), candidate, relative=relative)


def record(source: Session, specs: Sequence[TensorSpec]) -> list[Example]:
    """What a model computes on several shapes, so that it can be closed before another is opened.

    :param specs: the inputs to make examples for
    """
    examples = []
    for number, (batch, size, padded) in enumerate(SHAPES):
        axes = {axis for spec in specs for axis in spec.axes if isinstance(axis, str)}
        sizes = {axis: batch if axis == BATCH_AXIS else size for axis in axes}
        feeds = example_feeds(specs, sizes, padded=padded, seed=number)
        examples.append(Example(feeds, source.run(feeds)))
    return examples


def compare(examples: Sequence[Example], candidate: Session, *, relative: float = RELATIVE) -> dict[str, Any]:
    """Compare every output that both models have, at positions that no mask pads.

    The models agree if ``max|a-b| <= relative * max|b| + 1e-5`` for every output on every shape, b being the source's.

    :param relative: 1e-4, or 1e-2 for float16
    :return: ``{"agree": bool, "outputs": {name: {"difference", "allowed"}}}``, the worst case of each output
    """
    worst: dict[str, dict[str, float]] = {}
    for example in examples:
        got = candidate.run(example.feeds)
        for name in example.outputs.keys() & got.keys():
            mask = example.feeds.get(MASK)
            difference, allowed = _difference(example.outputs[name], got[name], mask, relative)
            if name not in worst or difference / allowed > worst[name]["difference"] / worst[name]["allowed"]:
                worst[name] = {"difference": difference, "allowed": allowed}
    agree = bool(worst) and all(each["difference"] <= each["allowed"] for each in worst.values())
    return {"agree": agree, "outputs": worst}


def _difference(
    expected: NDArray[Any], got: NDArray[Any], mask: NDArray[Any] | None, relative: float
) -> tuple[float, float]:
    """The largest difference at unpadded positions, and the largest allowed."""
    import numpy as np

    if expected.shape != got.shape:
        return float("inf"), ABSOLUTE
    if mask is not None and expected.ndim > mask.ndim and expected.shape[: mask.ndim] == mask.shape:
        expected, got = expected[mask.astype(bool)], got[mask.astype(bool)]
    difference = float(np.max(np.abs(expected.astype(np.float64) - got.astype(np.float64)), initial=0.0))
    allowed = relative * float(np.max(np.abs(expected), initial=0.0)) + ABSOLUTE
    return (float("inf"), allowed) if np.isnan(difference) else (difference, allowed)


def describe(report: Mapping[str, Any]) -> str:
    """The outputs that differ, for an error message."""
    return (
        "; ".join(
            f"{name} differs by {each['difference']:.3g}, allowed {each['allowed']:.3g}"
            for name, each in report["outputs"].items()
            if each["difference"] > each["allowed"]
        )
        or "no output is common to both"
    )

"""Do two models compute the same? Compared on several shapes, with batches and padded rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from hfopt.api.arrays import Array, Feeds
from hfopt.api.config import Config
from hfopt.api.example import BATCH_AXIS, MASK, PAST_AXIS, example_feeds
from hfopt.api.model import Session, TensorSpec
from hfopt.base.errors import PreconditionFailed

SHAPES: tuple[tuple[int, int, bool], ...] = ((1, 7, False), (2, 16, False), (4, 21, True))
"""Batch size, size of every other dynamic axis, padded rows: of four, one begins and two end in padding.

Of tokens that came before there are none, as many, twice as many.
"""

RELATIVE, ABSOLUTE = 1e-4, 1e-5
HALF_RELATIVE = 1e-2
"""For models that compute in float16."""
QUANTIZED_RELATIVE = 5e-2
"""For models that round activations to integers: the last bit of one moves some of them by a whole step."""


class Parity(Config):
    """``parity`` of a pass: how far the outputs of its model may be from those of the model that it got."""

    relative: float | None = Field(
        None,
        gt=0,
        description="Part of the largest output; None: 1e-4, or 1e-2 where either computes in float16, or 5e-2 where "
        "they round activations to integers.",
    )
    absolute: float = Field(ABSOLUTE, ge=0, description="Added to that.")
    on_difference: Literal["error", "warn"] = Field("error", description="Whether a larger difference fails the pass.")


@dataclass(frozen=True)
class Example:
    """One batch, and what the source computes of it."""

    feeds: Feeds
    outputs: Feeds


def record(source: Session, specs: Sequence[TensorSpec]) -> list[Example]:
    """What a model computes on several shapes, so that it can be closed before another is opened.

    A size that the model does not take, as of more tokens than it has positions for, is halved until it does; a shape
    that it takes at no size is left out. What the user says it takes comes first.

    :param specs: the inputs to make examples for
    :raises PreconditionFailed: it takes none of them, with the reason for the first
    """
    examples = [] if source.example is None else [Example(source.example, source.run(source.example))]
    refusals: list[PreconditionFailed] = []
    axes = {axis for spec in specs for axis in spec.axes if isinstance(axis, str)}
    for seed, (batch, size, padded) in enumerate(SHAPES):
        while size:
            sizes = dict.fromkeys(axes, size) | {BATCH_AXIS: batch, PAST_AXIS: size * seed}
            feeds = example_feeds(specs, sizes, padded=padded, seed=seed)
            try:
                examples.append(Example(feeds, source.run(feeds)))
                break
            except PreconditionFailed as error:
                refusals.append(error)
                size //= 2
    if not examples:
        raise refusals[0]
    return examples


def compare(
    examples: Sequence[Example], candidate: Session, *, relative: float = RELATIVE, absolute: float = ABSOLUTE
) -> dict[str, Any]:
    """Compare every output that both models have, at positions that no mask pads.

    The models agree if ``max|a-b| <= relative * max|b| + absolute`` for every output on every shape, b being the
    source's. Where b is infinite or not a number, a must be the same.

    :param relative: 1e-4, or 1e-2 for float16
    :return: ``{"agree": bool, "outputs": {name: {"difference", "allowed"}}}``, the worst case of each output
    """
    worst: dict[str, dict[str, float]] = {}
    for example in examples:
        got = candidate.run(example.feeds)
        for name in example.outputs.keys() & got.keys():
            mask = example.feeds.get(MASK)
            difference, allowed = _difference(example.outputs[name], got[name], mask, relative, absolute)
            case = {"difference": difference, "allowed": allowed}
            worst[name] = max(worst.get(name, case), case, key=_part)
    agree = bool(worst) and all(each["difference"] <= each["allowed"] for each in worst.values())
    return {"agree": agree, "outputs": worst}


def _part(case: Mapping[str, float]) -> float:
    """What part of the allowed difference there is; nothing is allowed where all is 0 and ``absolute`` too."""
    return case["difference"] / max(case["allowed"], sys.float_info.min)


def _difference(
    expected: Array, got: Array, mask: Array | None, relative: float, absolute: float
) -> tuple[float, float]:
    """The largest difference at unpadded positions, and the largest allowed."""
    import numpy as np

    if expected.shape != got.shape:
        return float("inf"), absolute
    if mask is not None and expected.ndim == 4 and (*expected.shape[:1], *expected.shape[2:3]) == mask.shape:
        expected, got = expected.swapaxes(1, 2), got.swapaxes(1, 2)  # keys and values, which are kept by head
    if mask is not None and expected.ndim >= mask.ndim and expected.shape[: mask.ndim] == mask.shape:
        expected, got = expected[mask.astype(bool)], got[mask.astype(bool)]
    exact, found = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(exact)
    allowed = relative * float(np.max(np.abs(exact[finite]), initial=0.0)) + absolute
    if not np.array_equal(exact[~finite], found[~finite], equal_nan=True) or np.isnan(found[finite]).any():
        return float("inf"), allowed
    return float(np.max(np.abs(exact[finite] - found[finite]), initial=0.0)), allowed


def describe(report: Mapping[str, Any]) -> str:
    """The outputs that differ, for an error message."""
    differing = [
        f"{name} differs by {each['difference']:.3g}, allowed {each['allowed']:.3g}"
        for name, each in report["outputs"].items()
        if each["difference"] > each["allowed"]
    ]
    return "; ".join(differing) or "no output is common to both"

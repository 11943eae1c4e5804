"""Labels as the model counts them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hfopt import PreconditionFailed
from hfopt_hf_data.messages import listed, near_miss, repr_of


def class_of(label: Any, row: int, attributes: Mapping[str, Any]) -> int:
    """A label's class: an integer stays if the model has such a class, a name is looked up.

    :param row: for messages
    :param attributes: the model's config.json, whose ``label2id`` and ``id2label`` count; without them any integer does
    :raises PreconditionFailed: the model has no such class
    """
    numbers: Mapping[str, Any] = attributes.get("label2id") or {}
    if isinstance(label, str):
        return _class_named(label, row, numbers)
    if label is None:
        raise PreconditionFailed(f"row {row} has no label")
    if not isinstance(label, int | float) or not math.isfinite(label) or label != int(label):
        raise PreconditionFailed(f"row {row}: label {repr_of(label)} is neither an integer nor a name")
    classes = max(len(numbers), len(attributes.get("id2label") or {}))
    if classes and not 0 <= label < classes:
        raise PreconditionFailed(f"row {row}: label {label} is not one of the model's, which are 0 to {classes - 1}")
    if not -(2**63) <= label < 2**63:
        raise PreconditionFailed(f"row {row}: label {label} is larger than any class can be")
    return int(label)


def _class_named(name: str, row: int, numbers: Mapping[str, Any]) -> int:
    if name in numbers:
        return int(numbers[name])
    raise PreconditionFailed(
        f"row {row}: label {repr_of(name)} is not one of the model's; they are {listed(numbers) or 'not named'}",
        hint=near_miss(name, numbers),
    )

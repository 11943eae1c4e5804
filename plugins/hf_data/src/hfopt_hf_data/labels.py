"""Labels as the model counts them: one class for each row, several labels, or a number.

Which of them it is, the model's own config says: ``problem_type``, and how many outputs its head has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hfopt import PreconditionFailed
from hfopt_hf_data.messages import listed, near_miss, repr_of

_UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls a class that has no name."""


class Reader(NamedTuple):
    """How the label columns of a row become its label.

    :param kind: ``class``: int; ``labels``: a list of 0 and 1, as many as the model has outputs; ``number``: float
    :param read: the values of the columns, and the row's number for messages
    """

    kind: str
    read: Callable[[Sequence[Any], int], Any]


def reader(columns: Mapping[str, Any], attributes: Mapping[str, Any]) -> Reader:
    """How to read labels from some columns of a dataset.

    :param columns: the type of each label column, as `datasets` has it; at least one
    :param attributes: the model's config.json; of its ``label2id`` the names count, whatever their case
    :raises PreconditionFailed: the columns can't be the model's labels
    """
    outputs = attributes.get("id2label") or attributes.get("label2id") or {}
    problem, (first, *others) = attributes.get("problem_type"), columns
    inner = inner_of(columns[first])
    if problem == "regression" or (problem is None and len(outputs) == 1):
        return Reader("number", lambda values, row: number(values[0], row))
    if inner is not None:
        classes = Classes(attributes, names_of_feature(inner))
        return Reader("labels", lambda values, row: _from_list(values[0], row, classes))
    if others and (problem == "multi_label_classification" or len(columns) == len(outputs)):
        order = _order(list(columns), attributes)
        return Reader("labels", lambda values, row: [_flag(values[at], row) for at in order])
    classes = Classes(attributes, names_of_feature(columns[first]))
    return Reader("class", lambda values, row: classes.of(values[0], row))


class Classes:
    """The classes of a model, and what the data call them.

    :param named: the names that the column states for its integers
    """

    def __init__(self, attributes: Mapping[str, Any], named: Sequence[str] = ()) -> None:
        numbers: Mapping[str, Any] = attributes.get("label2id") or {}
        self.count = max(len(numbers), len(attributes.get("id2label") or {}))
        self.names = {} if all(map(_UNNAMED.fullmatch, numbers)) else numbers
        self._folded = {name.casefold(): int(number) for name, number in numbers.items()}
        self._own = {}
        found = [name.casefold() in self._folded for name in named]
        if self.names and any(found):
            if not all(found):
                lost = named[found.index(False)]
                known = f"the model's classes are {listed(self.names)}"
                raise PreconditionFailed(
                    f"{known}, and the column has a class {lost!r}", hint=near_miss(lost, self.names)
                )
            self._own = {number: self._folded[name.casefold()] for number, name in enumerate(named)}

    def of(self, label: Any, row: int) -> int:
        """A label's class: a name is looked up, as is an integer for which the column states a name; another stays.

        :raises PreconditionFailed: the model has no such class
        """
        if isinstance(label, str):
            if label.casefold() in self._folded:
                return self._folded[label.casefold()]
            raise PreconditionFailed(
                f"row {row}: label {repr_of(label)} is not one of the model's; they are "
                f"{listed(self.names) or 'not named'}",
                hint=near_miss(label, self.names),
            )
        if label is None:
            raise PreconditionFailed(f"row {row} has no label")
        if not isinstance(label, int | float) or not math.isfinite(label) or label != int(label):
            raise PreconditionFailed(f"row {row}: label {repr_of(label)} is neither an integer nor a name")
        if label in self._own:
            return self._own[int(label)]
        if self.count and not 0 <= label < self.count:
            raise PreconditionFailed(
                f"row {row}: label {label} is not one of the model's, which are 0 to {self.count - 1}"
            )
        if not -(2**63) <= label < 2**63:
            raise PreconditionFailed(f"row {row}: label {label} is larger than any class can be")
        return int(label)


def _from_list(values: Any, row: int, classes: Classes) -> list[int]:
    """Several labels in one column: a 0 or 1 for each, or those that the row has, by name or number."""
    if not isinstance(values, list):
        raise PreconditionFailed(f"row {row} has no list of labels, but {repr_of(values)}")
    if len(values) == classes.count and all(each in (0, 1) and not isinstance(each, str) for each in values):
        return [int(each) for each in values]
    if not classes.count:
        raise PreconditionFailed("the model's config does not say how many labels it has", hint="it needs id2label")
    chosen = {classes.of(each, row) for each in values}
    return [int(each in chosen) for each in range(classes.count)]


def _flag(value: Any, row: int) -> int:
    if isinstance(value, str) or value not in (0, 1):
        raise PreconditionFailed(f"row {row}: label {repr_of(value)} of several is neither 0 nor 1")
    return int(value)


def number(value: Any, row: int) -> float:
    """A label that is a number.

    :raises PreconditionFailed: it is none, or not finite
    """
    if isinstance(value, str | bool) or not isinstance(value, int | float) or not math.isfinite(value):
        fact = "has no label" if value is None else f"has {repr_of(value)} for a label, and the model yields a number"
        raise PreconditionFailed(f"row {row} {fact}")
    return float(value)


def _order(columns: list[str], attributes: Mapping[str, Any]) -> list[int]:
    """The position of the column of each of the model's outputs: by name where it names them, else as they are given.

    :raises PreconditionFailed: there are more columns than outputs, or fewer
    """
    names = {int(number): str(name).casefold() for number, name in (attributes.get("id2label") or {}).items()}
    if names and len(names) != len(columns):
        raise PreconditionFailed(f"the model has {len(names)} labels, and label_cols names {len(columns)} columns")
    by_name = {name.casefold(): position for position, name in enumerate(columns)}
    if set(names.values()) == set(by_name):
        return [by_name[names[output]] for output in range(len(columns))]
    return list(range(len(columns)))


def inner_of(feature: Any) -> Any:
    """The type of the entries of a column of lists; None of any other."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def names_of_feature(feature: Any) -> Sequence[str]:
    """The names of a ClassLabel's integers."""
    return getattr(feature, "names", None) or ()

"""Metrics of texts: what a model heard, and what it answers.

A prediction is one text per row, and so is a reference; of questions it may be several texts, any of which will do. As
arrays of NumPy: str [n], or references [n, answers], or an object array [n] of str [answers] where rows have different
numbers of them; a row may have no answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Statistic
from hfopt_hf_metrics.perplexity import refuse_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class ErrorRate(Statistic):
    """Words, or characters, that are wrong, missing or too many, by how many there should be: may be above 1.

    Rows are [n, 2]: errors as jiwer counts them, and words.

    :param characters: of characters, not words
    """

    characters: bool = False
    higher_is_better = False

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np
        from jiwer import process_characters, process_words

        process: Callable[..., Any] = process_characters if self.characters else process_words
        pairs = paired_texts(predictions, references, several=False)
        aligned = [process(right, said) for said, (right,) in pairs]
        found = [
            (each.substitutions + each.deletions + each.insertions, each.hits + each.substitutions + each.deletions)
            for each in aligned
        ]
        if not sum(words for _, words in found):
            raise PreconditionFailed("the references have no words, of which errors would be a part")
        return np.array(found, dtype=float)

    def value(self, sums: Floats, n: int) -> Floats:
        return part_of(sums[..., 0], sums[..., 1])


class ExactMatch(Statistic):
    """The share of rows whose text is the reference to the letter, or one of those given."""

    proportion = True
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        pairs = paired_texts(predictions, references)
        return np.array([[said in answers] for said, answers in pairs], dtype=float)

    def value(self, sums: Floats, n: int) -> Floats:
        return sums[..., 0] / n


@dataclass(frozen=True)
class Squad(Statistic):
    """Answers to questions (Rajpurkar et al. 2016, 2018), in per cent: case, punctuation and articles do not count.

    Rows are scores of the answer that fits best, [n, 1].

    :param f1: of the words that answers share, else whether they are the same
    :param unanswerable: as of version 2, to say nothing is right where there is no answer
    """

    f1: bool
    unanswerable: bool
    unit = "%"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        score = self._f1 if self.f1 else _same
        found = []
        for row, (said, answers) in enumerate(paired_texts(predictions, references)):
            if self.unanswerable:
                answers = [each for each in answers if _words(each)] or [""]
            if not answers:
                raise PreconditionFailed(f"row {row} has no answer", hint="squad_v2 has questions without one")
            found.append([100 * max(score(_words(said), _words(each)) for each in answers)])
        return np.array(found)

    def _f1(self, said: list[str], right: list[str]) -> float:
        if self.unanswerable and not (said and right):
            return float(said == right)
        shared = (Counter(said) & Counter(right)).total()
        return 2 * shared / (len(said) + len(right)) if shared else 0.0

    def value(self, sums: Floats, n: int) -> Floats:
        return sums[..., 0] / n


def part_of(some: Floats, all_of_them: Floats) -> Floats:
    """A quotient; not a number where a resample has none."""
    import numpy as np

    none: Floats = np.full_like(some, np.nan)
    return np.divide(some, all_of_them, out=none, where=all_of_them > 0)


def _same(said: list[str], right: list[str]) -> float:
    return float(said == right)


def _words(answer: str) -> list[str]:
    return _ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split()


def paired_texts(
    predictions: NDArray[Any], references: NDArray[Any], *, several: bool = True
) -> list[tuple[str, Sequence[str]]]:
    """The text of each row, and those that will do.

    :param several: whether a row may have several references, or none
    :raises PreconditionFailed: they are no texts, or not one for each row
    """
    refuse_tokens(references)
    if len(predictions) != len(references):
        raise PreconditionFailed(f"there are {len(predictions)} predictions and {len(references)} references")
    said, right = [_texts(each) for each in predictions], [_texts(each) for each in references]
    for what, rows, many in (("prediction", said, False), ("reference", right, several)):
        for row, each in enumerate(rows):
            if each is None:
                raise PreconditionFailed(f"needs a text for each row; the {what} of row {row} is none")
            if not many and len(each) != 1:
                raise PreconditionFailed(f"needs one text for each row; row {row} has {len(each)} {what}s")
    return [(one[0], answers) for one, answers in zip(said, right, strict=True) if one and answers is not None]


def _texts(value: Any) -> list[str] | None:
    """A row's texts; None of anything else."""
    import numpy as np

    values = np.atleast_1d(value)
    return values.tolist() if values.dtype.kind == "U" else [] if not values.size else None

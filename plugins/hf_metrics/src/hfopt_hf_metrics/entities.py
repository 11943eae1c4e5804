"""Metrics of labelled tokens: which entities a model finds.

A prediction is the names of a row's labels, one per token (``B-PER``), and so is a reference, of the same tokens: only
those that count, neither padding nor later parts of a word. As arrays of NumPy: str [n, tokens], or an object array [n]
of str [tokens].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Statistic
from hfopt.api.text import did_you_mean
from hfopt_hf_metrics.classification import SCORES
from hfopt_hf_metrics.perplexity import refuse_tokens
from hfopt_hf_metrics.texts import part_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = list[str]


class TokenAccuracy(Statistic):
    """The share of tokens whose label is right. Rows are [n, 2]: such tokens, and all."""

    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np

        pairs = paired_labels(predictions, references)
        found = np.array([(sum(map(str.__eq__, *pair)), len(pair[0])) for pair in pairs], dtype=float)
        if not found[:, 1].any():
            raise PreconditionFailed("no token has a label")
        return found

    def value(self, sums: Floats, n: int) -> Floats:
        return part_of(sums[..., 0], sums[..., 1])


@dataclass(frozen=True)
class EntityScore(Statistic):
    """f1, precision or recall of entities, of which type and both ends must be right, as seqeval finds them.

    Rows are [n, 3]: entities found and there, found, there.

    :param score: of `SCORES`
    :param entity: the type of those that count; None: all
    """

    score: str
    entity: str | None = None
    unit = "proportion"

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        import numpy as np
        from seqeval.metrics.sequence_labeling import get_entities

        types: set[str] = set()
        found = []
        for pair in paired_labels(predictions, references):
            said, right = ({*get_entities(labels)} for labels in pair)
            types |= {each[0] for each in said | right}
            if self.entity is not None:
                said, right = ({each for each in some if each[0] == self.entity} for some in (said, right))
            found.append((len(said & right), len(said), len(right)))
        if self.entity is not None and self.entity not in types:
            fact = f"there is no entity of type {self.entity!r}; there is {', '.join(sorted(types)) or 'none'}"
            raise PreconditionFailed(fact, hint=did_you_mean(self.entity, types))
        return np.array(found, dtype=float)

    def value(self, sums: Floats, n: int) -> Floats:
        return SCORES[self.score](sums[..., 0], sums[..., 1], sums[..., 2])


def paired_labels(predictions: NDArray[Any], references: NDArray[Any]) -> Iterator[tuple[Labels, Labels]]:
    """The labels of each row's tokens, predicted and right.

    :raises PreconditionFailed: they are no names, or not one for each token
    """
    refuse_tokens(references)
    if len(predictions) != len(references):
        raise PreconditionFailed(f"there are {len(predictions)} predictions and {len(references)} references")
    for row, pair in enumerate(zip(predictions, references, strict=True)):
        for each in pair:
            if each.ndim != 1 or (each.dtype.kind != "U" and each.size):
                raise PreconditionFailed(
                    f"needs the name of a label for each token; row {row} has {each.dtype} {list(each.shape)}",
                    hint="seqeval is of data for token-classification",
                )
        said, right = pair
        if len(said) != len(right):
            raise PreconditionFailed(f"row {row}: {len(said)} labels are predicted, and {len(right)} tokens have one")
        yield said.tolist(), right.tolist()

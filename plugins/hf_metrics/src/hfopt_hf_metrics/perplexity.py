"""Perplexity: how many tokens a model hesitates between, on average, when it predicts a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Statistic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Perplexity(Statistic):
    """The exponential of the mean negative log-likelihood of all tokens that count.

    Rows are what data for text generation predict, [n, 2]: the sum of a text's tokens, and how many there are. A text
    without any adds nothing.
    """

    higher_is_better = False

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> NDArray[np.float64]:
        if not are_tokens(references) or predictions.shape != (len(references), 2):
            raise PreconditionFailed(
                "perplexity is of texts that a model writes, and these data have classes",
                hint="set task: text-generation in the data config",
            )
        counted: NDArray[np.float64] = predictions[predictions[:, 1] > 0].astype(float)
        if not len(counted):
            raise PreconditionFailed(
                "no text has a token that counts", hint="the first token of a text is not predicted"
            )
        return counted

    def value(self, sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        import numpy as np

        found: NDArray[np.float64] = np.exp(sums[..., 0] / sums[..., 1])
        return found


def are_tokens(references: NDArray[Any]) -> bool:
    """Whether labels are the tokens of texts: several of a row, and not only 0 and 1 as several labels are."""
    import numpy as np

    if references.dtype == object:
        return all(each.dtype.kind == "i" and each.ndim == 1 for each in references)
    return references.ndim == 2 and references.dtype.kind == "i" and not np.isin(references, (0, 1)).all()


def refuse_tokens(references: NDArray[Any]) -> None:
    """For metrics of classes.

    :raises PreconditionFailed: the labels are the tokens of texts
    """
    if are_tokens(references):
        raise PreconditionFailed(
            "the labels are the tokens of texts, which have no class that could be right or wrong: metrics such as "
            "accuracy have no meaning there",
            hint="perplexity measures how well a model predicts texts",
        )

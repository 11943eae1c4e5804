"""Sequences of tokens, as a model that writes reads them; and how well it predicts each token from those before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, PreconditionFailed, Session
from hfopt_hf_data.generation import TEXT_GENERATION
from hfopt_hf_data.rows import Rows, logits_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

IDS, MASK, SEEN = "input_ids", "attention_mask", "seen"
IGNORED = -100
"""The label of a token that is not to be predicted: padding, and context."""
_BLOCK = 4_000_000
"""Logits that are turned into float64 at a time."""


class NextTokens(Rows):
    """Rows of token ids. Labels are the ids themselves, not shifted."""

    own = (SEEN,)

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._seen, self._masked = self._own.get(SEEN), config.use_attention_mask

    def lengths(self) -> None:
        """Rows stay in batches as small as the user wrote: logits of many would fill the memory."""
        return

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        import numpy as np

        for batch in super().batches(rows, size=size):
            mask = self._mask(batch.rows, batch.feeds[IDS].shape)
            labels = np.where(mask, batch.feeds[IDS], IGNORED)
            if self._seen is not None:
                for row, ids in zip(batch.rows, labels, strict=True):
                    seen = self._seen[int(row)].as_py()
                    ids[np.flatnonzero(ids != IGNORED)[:seen]] = IGNORED
            feeds = {**batch.feeds, MASK: mask.astype(np.int64)} if self._masked else batch.feeds
            yield Batch(batch.rows, feeds, labels)

    def _mask(self, rows: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which tokens are a row's own: told by its length, as the token that pads may stand in a text too."""
        import numpy as np

        lengths = np.array([len(self._columns[IDS][int(row)]) for row in rows])[:, None]
        places = np.arange(shape[1])[None, :]
        own: NDArray[np.bool_] = places >= shape[1] - lengths if self._left else places < lengths
        return own

    def predict(self, session: Session, batch: Batch) -> NDArray[np.float64]:
        """For each row the sum of its tokens' negative log-likelihoods, and how many tokens count: [batch, 2]."""
        import numpy as np

        outputs = session.run(batch.feeds)
        logits = logits_of(outputs)
        if batch.labels is None or logits.shape[:2] != batch.labels.shape:
            raise PreconditionFailed(
                f"the model yields {list(logits.shape)}, not logits for every token of {list(batch.feeds[IDS].shape)}",
                hint=f"the model's task must be {TEXT_GENERATION} too",
            )
        return np.stack([surprise(*each) for each in zip(logits[:, :-1], batch.labels[:, 1:], strict=True)])


def surprise(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of one row: the negative log-likelihood of the labels that count.

    :param logits: [tokens, vocabulary], of the labels at the same places
    :param labels: [tokens]
    :return: the sum in nats, and the number of tokens
    """
    import numpy as np

    places = np.flatnonzero(labels != IGNORED)
    total, step = 0.0, max(1, _BLOCK // logits.shape[-1])
    for start in range(0, len(places), step):
        some = places[start : start + step]
        block = logits[some].astype(np.float64)
        largest = block.max(axis=-1)
        scale = largest + np.log(np.exp(block - largest[:, None]).sum(axis=-1))
        total += float((scale - block[np.arange(len(some)), labels[some]]).sum())
    if np.isnan(total):
        raise PreconditionFailed(
            "the model's outputs are not numbers (NaN) for some tokens of a row",
            hint="in float16 values may grow too large: OrtMixedPrecision keeps such nodes in float32",
        )
    return np.array([total, len(places)], dtype=np.float64)

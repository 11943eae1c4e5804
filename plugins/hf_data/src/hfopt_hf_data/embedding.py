"""Texts as vectors, and how alike two texts are: the cosine of their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, Dataset, PreconditionFailed, Session
from hfopt_hf_data.columns import check_columns, text_columns
from hfopt_hf_data.groups import Groups
from hfopt_hf_data.labels import number
from hfopt_hf_data.messages import repr_of
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL, Rows, check_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

MASK = "attention_mask"


def prepare(given: Given) -> Prepared:
    """Token ids of a text, with a vector as label; or of two texts, with a number."""
    tokeniser, labels = given.processor, names_of(given.config.label_cols)
    texts = text_columns(given.data, names_of(given.config.input_cols), labels)
    check_columns(given.data, labels)
    two = len(texts) == 2
    read, kind = (number, "number") if two else (_vector, "numbers")

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([*texts, *labels]):
            first, *second = (tokeniser.encode({name: batch[name]}, start) for name in texts)
            columns: Columns = {
                name: [list(both) for both in zip(ids, *(each[name] for each in second), strict=True)] if two else ids
                for name, ids in first.items()
            }
            if labels:
                columns = {**columns, LABEL: [read(value, row) for row, value in enumerate(batch[labels[0]], start)]}
            yield columns

    inputs = dict.fromkeys(tokeniser.tokenizer.model_input_names, "groups") if two else {}
    return Prepared(rows(), tokeniser.layout, {**inputs, LABEL: kind})


def _vector(value: Any, row: int) -> list[float]:
    if not isinstance(value, list) or not value:
        raise PreconditionFailed(f"row {row} has {repr_of(value)} for a label, which is not a list of numbers")
    return [number(each, row) for each in value]


class Vectors(Rows):
    """Predictions are vectors, float32 [batch, width]."""

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._pooling = config.pooling

    def predict(self, session: Session, batch: Batch) -> NDArray[np.float32]:
        return pooled(session.run(batch.feeds), batch.feeds, self._pooling)


class Likeness(Groups):
    """Predictions are cosines, float32 [batch]."""

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._pooling = config.pooling

    def predict(self, session: Session, batch: Batch) -> NDArray[np.float32]:
        import numpy as np

        vectors: list[list[NDArray[np.float32]]] = [[] for _ in batch.rows]
        for ran in self.run(session, batch):
            for row, vector in zip(ran.rows, pooled(ran.outputs, ran.feeds, self._pooling), strict=True):
                vectors[row].append(vector)
        return np.array([cosine(*each) for each in vectors], dtype=np.float32)


def opened(folder: Path, config: HuggingfaceContainerConfig) -> Dataset:
    """Vectors of one column of texts, or how alike those of two columns are."""
    return (Likeness if len(names_of(config.input_cols)) == 2 else Vectors)(folder, config)


def pooled(outputs: Mapping[str, NDArray[Any]], feeds: Mapping[str, NDArray[Any]], pooling: str) -> NDArray[np.float32]:
    """A vector of each row: an output that is one already, else what `pooling` makes of the tokens' vectors."""
    import numpy as np

    named = [name for name in ("sentence_embedding", "last_hidden_state") if name in outputs]
    found = outputs[named[0] if named else next(iter(outputs))]
    check_numbers(found)
    found = found.astype(np.float32)
    if found.ndim == 2:
        return found
    if found.ndim != 3:
        raise PreconditionFailed(
            f"the model yields {list(found.shape)}, not a vector for every token",
            hint="the model's task must be feature-extraction too",
        )
    mask = feeds.get(MASK, np.ones(found.shape[:2]))
    if pooling == "mean":
        weights = mask[..., None].astype(np.float32)
        return (found * weights).sum(axis=1) / weights.sum(axis=1).clip(1e-9)
    places = mask.argmax(axis=1) if pooling == "cls" else mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    chosen: NDArray[np.float32] = found[np.arange(len(found)), places]
    return chosen


def cosine(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Of two vectors; 0 if one has no length."""
    import numpy as np

    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else 0.0

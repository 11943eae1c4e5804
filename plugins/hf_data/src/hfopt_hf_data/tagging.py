"""Words with a tag each: the model tags tokens, and a word has the tag of its first one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, PreconditionFailed, Session
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.labels import Classes, inner_of, names_of_feature
from hfopt_hf_data.messages import listed, repr_of
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL, Rows, check_numbers, logits_of, ragged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

PLACES = "places"
IGNORED = -100
"""The label of a word that does not count, and of tokens that begin none."""


def prepare(given: Given) -> Prepared:
    """Token ids; the places of the tokens that begin a word, and these words' tags.

    A row holds a list of words, or a text of which spaces part the words; and as many tags. A word that the tokenizer
    makes nothing of, or that is beyond the most tokens, has no place: it is not predicted, and its tag does not count.
    """
    words, tags = _columns(given)
    feature = given.data.features[tags] if tags else None
    named = names_of_feature(inner_of(feature) or feature)
    classes = Classes(given.attributes, named)
    tokeniser = given.processor
    tokeniser.check_places()

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([words, *filter(None, [tags])]):
            texts = [_parted(text) for text in batch[words]]
            encoding = tokeniser.encoding({words: texts}, start, words=True)
            firsts = [first_tokens(encoding.word_ids(row)) for row in range(len(texts))]
            columns = tokeniser.inputs(encoding)
            if tags is None:
                yield {**columns, PLACES: [[*first.values()] for first in firsts]}
                continue
            kept = [
                _tagged(text, _parted(of_row), first, classes, row)
                for row, (text, of_row, first) in enumerate(zip(texts, batch[tags], firsts, strict=True), start)
            ]
            yield {**columns, PLACES: [[*each] for each in kept], LABEL: [[*each.values()] for each in kept]}

    layout = {**tokeniser.layout, "names": _names(classes, named, given.attributes)}
    return Prepared(rows(), layout)


def _columns(given: Given) -> tuple[str, str | None]:
    """Of words and of tags."""
    wanted, labels = names_of(given.config.input_cols), names_of(given.config.label_cols)
    check_columns(given.data, [*wanted, *labels])
    if not wanted:
        lists = [name for name, feature in given.data.features.items() if inner_of(feature) is not None]
        wanted = [name for name in lists if getattr(inner_of(given.data.features[name]), "dtype", "") == "string"]
        wanted = [name for name in wanted if name not in labels]
        if len(wanted) != 1:
            raise PreconditionFailed(
                f"which column holds the words? The columns are {listed(given.data.column_names)}",
                hint="set input_cols",
            )
    return wanted[0], labels[0] if labels else None


def _parted(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def first_tokens(words: Sequence[int | None]) -> dict[int, int]:
    """The place of the first token of each word that has one.

    :param words: of each token, the number of its word; None: it is of none, such as [CLS]
    """
    places: dict[int, int] = {}
    for place, word in enumerate(words):
        if word is not None:
            places.setdefault(word, place)
    return places


def _tagged(words: Sequence[str], tags: Any, first: Mapping[int, int], classes: Classes, row: int) -> dict[int, int]:
    """The class of each word that counts, by the place of its first token."""
    if not isinstance(tags, list) or len(tags) != len(words):
        found = f"{len(tags)} tags" if isinstance(tags, list) else repr_of(tags)
        raise PreconditionFailed(f"row {row} has {len(words)} words and {found}: each word has one tag")
    counted = {word: place for word, place in first.items() if tags[word] != IGNORED}
    return {place: classes.of(tags[word], row) for word, place in counted.items()}


def _names(classes: Classes, named: Sequence[str], attributes: Mapping[str, Any]) -> list[str]:
    """What the model's classes are called: by its config; where that has no names, by the column."""
    numbered = {int(number): str(name) for number, name in (attributes.get("id2label") or {}).items()}
    if not classes.names and (not numbered or len(named) == len(numbered)):
        return list(named)
    return [numbered[number] for number in sorted(numbered)]


class TaggedWords(Rows):
    """Tokens, and where words begin. Predictions and labels are the names of tags, for each word that has a place."""

    own = (PLACES,)

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._places, self._names = self._own[PLACES], self._layout["names"]

    def token_labels(self, batch: Batch) -> NDArray[np.int64]:
        """Of every token its class: -100 unless it begins a word that counts, [batch, tokens]."""
        import numpy as np

        width = next(iter(batch.feeds.values())).shape[1]
        labels = np.full((len(batch.rows), width), IGNORED, dtype=np.int64)
        for row, places, position in zip(labels, self._begins(batch, width), batch.rows, strict=True):
            row[places] = self._labels[int(position)].as_py()
        return labels

    def predict(self, session: Session, batch: Batch) -> NDArray[Any]:
        logits = logits_of(session.run(batch.feeds))
        if logits.ndim != 3:
            raise PreconditionFailed(
                f"the model yields {list(logits.shape)}, not logits of tags for every token",
                hint="the model's task must be token-classification too",
            )
        check_numbers(logits)
        chosen = logits.argmax(axis=-1)
        begins = self._begins(batch, chosen.shape[1])
        return ragged([self._named(row[places]) for row, places in zip(chosen, begins, strict=True)])

    def _begins(self, batch: Batch, width: int) -> Iterator[NDArray[np.int64]]:
        """Where words begin, of each row as it is padded."""
        tokens = next(iter(self._columns.values()))
        for position in map(int, batch.rows):
            shift = width - len(tokens[position]) if self._left else 0
            yield self._places[position].values.to_numpy().astype("int64") + shift

    def _labels_of(self, positions: NDArray[np.int64]) -> NDArray[Any] | None:
        if self._labels is None:
            return None
        return ragged([self._named(self._labels[int(position)].as_py()) for position in positions])

    def _named(self, classes: Any) -> NDArray[np.str_]:
        import numpy as np

        names = np.array(self._names or [""])
        classes = np.asarray(classes, dtype=np.int64)
        found: NDArray[np.str_] = names[classes]
        return found

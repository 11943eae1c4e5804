"""Texts in which one token is masked: the model is to find it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, PreconditionFailed, Session
from hfopt_hf_data.columns import check_columns, text_columns
from hfopt_hf_data.messages import repr_of
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL, Rows, check_numbers, logits_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

PLACE = "place"


def prepare(given: Given) -> Prepared:
    """Token ids with one mask, its place, and the token that stood there.

    With ``label_cols`` the texts hold the mask, and the column the word that it stands for. Else one token of each row
    is masked, drawn by ``random_seed`` (0) from those that are not special; rows without any are left out.

    :raises PreconditionFailed: the tokenizer has no mask; a text has none, or several; a word is not one token
    """
    tokenizer, answers = given.processor.tokenizer, names_of(given.config.label_cols)
    if tokenizer.mask_token_id is None:
        raise PreconditionFailed("the tokenizer has no token that masks another: the model is none of fill-mask")
    texts = text_columns(given.data, names_of(given.config.input_cols), answers)
    check_columns(given.data, answers)
    draw = random.Random(given.config.random_seed or 0)  # noqa: S311 - a sample, no secret

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([*texts, *answers]):
            encoding = given.processor.encoding(
                {name: batch[name] for name in texts}, start, return_special_tokens_mask=True
            )
            columns: Columns = given.processor.inputs(encoding)
            if answers:
                labelled = zip(columns["input_ids"], batch[answers[0]], strict=True)
                found = [
                    (_mask_of(ids, tokenizer, row), _token_of(answer, tokenizer, row))
                    for row, (ids, answer) in enumerate(labelled, start)
                ]
            else:
                found = [_masked(*each, draw, tokenizer) for each in _pairs(encoding, columns)]
            kept = [row for row, (place, _) in enumerate(found) if place >= 0]
            columns |= {PLACE: [place for place, _ in found], LABEL: [token for _, token in found]}
            yield {name: [values[row] for row in kept] for name, values in columns.items()}

    return Prepared((each for each in rows() if each[PLACE]), given.processor.layout, {PLACE: "place", LABEL: "class"})


def _pairs(encoding: Any, columns: Columns) -> Iterator[tuple[list[int], list[int]]]:
    return zip(columns["input_ids"], encoding["special_tokens_mask"], strict=True)


def _masked(ids: list[int], special: Sequence[int], draw: random.Random, tokenizer: Any) -> tuple[int, int]:
    """Mask a token of a row, in place.

    :return: its place, and what it was; -1 if there is none
    """
    places = [place for place, flag in enumerate(special) if not flag and ids[place] != tokenizer.mask_token_id]
    if not places:
        return -1, -1
    place = draw.choice(places)
    token, ids[place] = ids[place], tokenizer.mask_token_id
    return place, token


def _mask_of(ids: Sequence[int], tokenizer: Any, row: int) -> int:
    places = [place for place, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if len(places) != 1:
        found = f"{len(places) or 'no'} {tokenizer.mask_token}"
        raise PreconditionFailed(f"row {row} has {found} among its tokens, not one")
    return places[0]


def _token_of(word: Any, tokenizer: Any, row: int) -> int:
    """The one token of a word, which may begin a text or stand after a space."""
    if isinstance(word, int) and not isinstance(word, bool):
        return word
    spellings = (word, f" {word}") if isinstance(word, str) else ()
    for ids in (tokenizer(each, add_special_tokens=False)["input_ids"] for each in reversed(spellings)):
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            return int(ids[0])
    raise PreconditionFailed(f"row {row}: {repr_of(word)} is not one token of this model")


class MaskedTokens(Rows):
    """Predictions and labels are token ids, int64 [batch]."""

    own = (PLACE,)

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._places = self._own[PLACE]

    def predict(self, session: Session, batch: Batch) -> NDArray[np.int64]:
        import numpy as np

        logits, shape = logits_of(session.run(batch.feeds)), batch.feeds["input_ids"].shape
        if logits.ndim != 3 or logits.shape[:2] != shape:
            raise PreconditionFailed(
                f"the model yields {list(logits.shape)}, not logits for every token of {list(shape)}",
                hint="the model's task must be fill-mask too",
            )
        lengths = np.array([len(self._columns["input_ids"][int(row)]) for row in batch.rows])
        places = np.array([self._places[int(row)].as_py() for row in batch.rows])
        found = logits[np.arange(len(places)), places + (shape[1] - lengths if self._left else 0)]
        check_numbers(found)
        chosen: NDArray[np.int64] = found.argmax(axis=-1)
        return chosen

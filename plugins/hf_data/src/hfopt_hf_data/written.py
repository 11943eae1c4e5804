"""Texts that models of an encoder and a decoder write, token by token, each the likeliest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfopt import Batch, PreconditionFailed, Session
from hfopt.api.files import read_json
from hfopt_hf_data.messages import listed, unknown
from hfopt_hf_data.rows import LAYOUT, Rows, check_numbers, logits_of
from hfopt_hf_data.tokenise import open_tokenizer, positions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig
    from hfopt_hf_data.preparing import Given

TOKENIZER, WRITING = "tokenizer", "writing"
"""A folder beside the rows; and the layout's key of a `Writing`."""
DECODER = "decoder_input_ids"


class Writing(NamedTuple):
    """How a model writes, as transformers' ``generate`` has it without beams: what config files say of it.

    :param start: tokens before the first that is written
    :param end: tokens after which nothing follows
    :param never: tokens that are not written
    :param never_first: nor are these as the first
    :param most: tokens, at most
    """

    start: list[int]
    end: list[int]
    never: list[int]
    never_first: list[int]
    most: int


def writing(given: Given, start: int) -> Writing:
    """How the model writes, with its tokenizer kept beside the rows.

    :param start: the token with which its decoder starts
    :raises PreconditionFailed: it has no positions for tokens; a language that it does not write, or none of several
    """
    file = given.processor.folder / "generation_config.json"
    said = {**given.attributes, **(read_json(file) if file.exists() else {})}
    tokenizer = open_tokenizer(given.processor.folder)
    tokenizer.save_pretrained(given.folder / TOKENIZER)
    begin = [start, *_after_start(said, given.config.src_lang)]
    forced = _ids(tokenizer.get_vocab().get(given.config.tgt_lang, said.get("forced_bos_token_id")))
    most = _most(said, given.config.max_new_tokens, len(begin)) - len(forced)  # which count as written
    return Writing(
        start=[*begin, *forced],
        end=_ids(said.get("eos_token_id")),
        never=_ids(said.get("suppress_tokens")),
        never_first=_ids(said.get("begin_suppress_tokens")),
        most=most,
    )


def _most(said: Mapping[str, Any], wanted: int | None, taken: int) -> int:
    forced_end = said.get("forced_eos_token_id") is not None  # instead of the last token
    places = said.get("max_target_positions") or positions(said)
    left = None if places is None else places - taken
    if left is not None and left < (wanted or 1):
        raise PreconditionFailed(f"max_new_tokens is {wanted or 1}, and the model has positions for {max(left, 0)}")
    most = wanted or left
    if most is None:
        raise PreconditionFailed("the model has positions for any number of tokens", hint="set max_new_tokens")
    return most - forced_end


def _after_start(said: Mapping[str, Any], language: str | None) -> list[int]:
    """What Whisper and its like are told before they write: the language, to transcribe it, and without times."""
    languages, no_times = said.get("lang_to_id") or {}, said.get("no_timestamps_token_id")
    known = {name.strip("<|>"): number for name, number in languages.items()}
    if known and language is None:
        raise PreconditionFailed(f"the model writes several languages: {listed(known)}", hint="set src_lang to one")
    if known and language not in known:
        raise unknown("the model has no language of src_lang; it has", str(language), known)
    task = (said.get("task_to_id") or {}).get("transcribe")
    told = (known.get(language or ""), task if known else None, no_times)
    return [each for each in told if each is not None]


def _ids(said: Any) -> list[int]:
    return [said] if isinstance(said, int) else list(said or ())


class WrittenTexts(Rows):
    """Predictions are the texts that the model writes, without special tokens."""

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._folder, self._writing = folder, Writing(**self._layout[WRITING])

    def lengths(self) -> None:
        """Rows stay in batches as small as the user wrote: what a model keeps of many would fill the memory."""
        return

    @cached_property
    def _tokenizer(self) -> Any:
        return open_tokenizer(self._folder / TOKENIZER)

    def predict(self, session: Session, batch: Batch) -> NDArray[np.str_]:
        import numpy as np

        found = written(session, batch.feeds, self._writing)
        return np.array([self._tokenizer.decode(ids, skip_special_tokens=True) for ids in found])


def writes(folder: Path) -> bool:
    """Whether prepared rows are for a model that is to write."""
    return WRITING in json.loads((folder / LAYOUT).read_text("utf-8"))


def written(session: Session, feeds: Mapping[str, NDArray[Any]], how: Writing) -> list[list[int]]:
    """The tokens of each row, up to its end.

    A model that keeps what it has read is fed token by token, another one all tokens anew.
    """
    import numpy as np

    rows = len(next(iter(feeds.values())))
    tokens = np.tile(np.array(how.start, dtype=np.int64), (rows, 1))
    given: dict[str, NDArray[Any]] = {**feeds, DECODER: tokens}
    ended = np.zeros(rows, dtype=bool)
    for step in range(how.most):
        found = session.run(given)
        logits = logits_of(found)
        if logits.ndim != 3:
            raise PreconditionFailed(
                f"the model yields {list(logits.shape)}, not logits of what it writes",
                hint="the model must be one that reads and writes: its task is the data's",
            )
        last = logits[:, -1].astype(np.float32)
        check_numbers(last)
        last[:, [*how.never, *(how.never_first if step == 0 else ())]] = -np.inf
        token = np.where(ended, how.end[0] if how.end else 0, last.argmax(axis=-1))[:, None]
        tokens = np.concatenate([tokens, token], axis=1)
        ended |= np.isin(token[:, 0], how.end)
        if ended.all():
            break
        kept = {name: each for name, each in found.items() if name.startswith("present.")}
        past = {name.replace("present", "past_key_values", 1): each for name, each in kept.items()}
        given = {**given, **past, DECODER: token if past else tokens}  # a first step's past of the encoder stays
    return [_until_end(row.tolist(), how.end) for row in tokens[:, len(how.start) :]]


def _until_end(ids: list[int], end: list[int]) -> list[int]:
    return ids[: next((place for place, each in enumerate(ids) if each in end), len(ids))]

"""From texts to token ids, with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.messages import repr_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNKNOWN_LENGTH = 10**9
"""transformers says so where a tokenizer does not state its length, in various even larger numbers."""


class Tokeniser:
    """Encodes batches of texts as the config says.

    :param attributes: the model's config.json
    """

    def __init__(self, config: HuggingfaceContainerConfig, folder: Path, attributes: Mapping[str, Any]) -> None:
        self._config = config
        self._tokenizer = open_tokenizer(folder)
        self._limit = _limit(config, self._tokenizer, attributes)

    @property
    def padding(self) -> dict[str, Any]:
        """How to pad what `encode` returns: the filler of each input that is not 0, the side, and a width if fixed.

        :raises PreconditionFailed: rows are to be padded to a length that nothing states
        """
        fixed = self._config.padding == "max_length"
        if fixed and self._limit is None:
            raise PreconditionFailed(
                "padding is max_length, and neither the config nor the tokenizer states a length", hint="set max_length"
            )
        return {
            "fillers": {
                "input_ids": self._tokenizer.pad_token_id or 0,
                "token_type_ids": self._tokenizer.pad_token_type_id,
            },
            "side": self._tokenizer.padding_side,
            "width": self._limit if fixed else None,
        }

    def encode(self, texts: Mapping[str, Sequence[Any]], start: int) -> dict[str, list[list[int]]]:
        """Token ids and what goes with them, unpadded.

        :param texts: by column, in order
        :param start: the first row's number, for messages
        :raises PreconditionFailed: a row has no text
        """
        for name, values in texts.items():
            self._check(name, values, start)
        truncation = self._config.truncation if self._limit is not None else False
        encoded = self._tokenizer(
            *texts.values(),
            padding=False,
            truncation=truncation,
            max_length=self._limit if truncation not in (False, "do_not_truncate") else None,
            add_special_tokens=self._config.add_special_tokens,
            is_split_into_words=self._config.is_split_into_words,
            verbose=False,
        )
        return {name: encoded[name] for name in self._tokenizer.model_input_names if name in encoded}

    def _check(self, name: str, values: Sequence[Any], start: int) -> None:
        wanted, kind = (list, "a list of words") if self._config.is_split_into_words else (str, "text")
        for row, value in enumerate(values, start):
            if value is None:
                raise PreconditionFailed(
                    f"row {row} has nothing in column {repr_of(name)}",
                    hint="leave such rows out; in csv files, words such as NA and null are read as missing values",
                )
            if not isinstance(value, wanted):
                raise PreconditionFailed(
                    f"row {row} has {repr_of(value)} in column {repr_of(name)}, which is not {kind}"
                )
            if self._config.is_split_into_words and not all(isinstance(word, str) for word in value):
                raise PreconditionFailed(f"row {row} has words that are not text in column {repr_of(name)}")
            if len(value) > self._config.max_field_bytes:
                raise PreconditionFailed(
                    f"row {row} has {kind} of length {len(value):,} in column {repr_of(name)}, and the limit is "
                    f"{self._config.max_field_bytes:,}",
                    hint="if that is right, set max_field_bytes to more",
                )


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder; transformers 5 makes up an empty one where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers, in Rust, raises Exception itself and no type of its own
        reason = str(error).strip().partition("\n")[0]
        raise PreconditionFailed(f"{folder} has no tokenizer that transformers can read: {reason}") from error
    files = sorted(tokenizer.vocab_files_names.values())
    if files and not any((folder / file).is_file() for file in files):
        raise PreconditionFailed(f"{folder} has no tokenizer that transformers can read: no {' or '.join(files)}")
    return tokenizer


def _limit(
    config: HuggingfaceContainerConfig, tokenizer: PreTrainedTokenizerBase, attributes: Mapping[str, Any]
) -> int | None:
    """How many tokens a row may have: what the config says, else what tokenizer and model both take."""
    if config.max_length is not None:
        return config.max_length
    stated = (tokenizer.model_max_length, attributes.get("max_position_embeddings"))
    return min((each for each in stated if isinstance(each, int) and 0 < each < _UNKNOWN_LENGTH), default=None)

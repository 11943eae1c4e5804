"""From texts to token ids, with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.messages import repr_of

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_UNKNOWN_LENGTH = 10**9
"""transformers says so where a tokenizer does not state its length, in various even larger numbers."""

_POSITIONS = ("n_positions", "max_position_embeddings")
_FROM_PADDING = frozenset(
    {
        *("camembert", "data2vec-text", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    }
)
"""Types of models that count positions from the padding token's id on."""


class Tokeniser:
    """Encodes batches of texts as the config says.

    :ivar tokenizer: transformers'
    :ivar folder: the model's
    :ivar limit: how many tokens a row may have; None: any number
    :ivar layout: how to pad what `encode` returns
    :param attributes: the model's config.json
    :raises PreconditionFailed: there is no tokenizer; rows are to be padded to a length that nothing states
    """

    def __init__(self, config: HuggingfaceContainerConfig, folder: Path, attributes: Mapping[str, Any]) -> None:
        self._config, self.folder = config, folder
        self._positions = positions(attributes)
        self.tokenizer = open_tokenizer(folder)
        self.limit = _limit(config, self.tokenizer, attributes)
        self.layout = self._layout()

    def _layout(self) -> dict[str, Any]:
        fixed = self._config.padding == "max_length"
        if fixed and self.limit is None:
            raise PreconditionFailed(
                "padding is max_length, and neither the config nor the tokenizer states a length", hint="set max_length"
            )
        return {
            "fillers": {
                "input_ids": self.tokenizer.pad_token_id or 0,
                "token_type_ids": self.tokenizer.pad_token_type_id,
            },
            "side": self.tokenizer.padding_side,
            "width": self.limit if fixed else None,
        }

    def encode(self, texts: Mapping[str, Sequence[Any]], start: int) -> dict[str, list[list[int]]]:
        """Token ids and what goes with them, unpadded.

        :param texts: by column, in order
        :param start: the first row's number, for messages
        :raises PreconditionFailed: a row has no text, or more tokens than the model has positions
        """
        words = self._config.is_split_into_words
        found = self.inputs(self.encoding(texts, start, words=words, return_attention_mask=False))
        if (
            "attention_mask" in self.tokenizer.model_input_names
        ):  # of ones where nothing is padded: made here it costs less
            found["attention_mask"] = [[1] * len(ids) for ids in found["input_ids"]]
        for row, ids in enumerate(found["input_ids"], start) if self._positions is not None else ():
            if len(ids) > self._positions:
                fact = f"row {row} has {len(ids)} tokens, and the model takes at most {self._positions}"
                raise PreconditionFailed(fact, hint="set truncation to true, or leave such rows out")
        return found

    def encoding(
        self, texts: Mapping[str, Sequence[Any]], start: int, *, words: bool = False, **more: Any
    ) -> BatchEncoding:
        """What the tokenizer says of texts.

        :param words: rows are lists of words
        :param more: of the tokenizer's options, instead of what the config means
        """
        for name, values in texts.items():
            self.check(name, values, start, words=words)
        truncation = self._config.truncation if self.limit is not None else False
        meant = {
            "padding": False,
            "truncation": truncation,
            "max_length": self.limit if truncation not in (False, "do_not_truncate") else None,
            "add_special_tokens": self._config.add_special_tokens,
            "is_split_into_words": words,
            "verbose": False,
        }
        return self.tokenizer(*texts.values(), **{**meant, **more})

    def inputs(self, encoding: Mapping[str, Any]) -> dict[str, list[list[int]]]:
        """Of what a tokenizer says, what the model takes."""
        return {name: encoding[name] for name in self.tokenizer.model_input_names if name in encoding}

    def check_places(self) -> None:
        """That the tokenizer says where its tokens stand in a text.

        :raises PreconditionFailed: it does not
        """
        if not self.tokenizer.is_fast:
            raise PreconditionFailed("the tokenizer does not say where its tokens stand in a text: it is a slow one")

    def check(self, name: str, values: Sequence[Any], start: int, *, words: bool = False) -> None:
        """That every row of a column has a text, or a list of words, within the limits.

        :raises PreconditionFailed: one has not
        """
        wanted, kind = (list, "a list of words") if words else (str, "text")
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
            if words and not all(isinstance(word, str) for word in value):
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
    """How many tokens a row may have: what the config says, else what tokenizer and model both take.

    :raises PreconditionFailed: the model has fewer positions
    """
    most = positions(attributes)
    if config.max_length is not None:
        if most is not None and config.max_length > most:
            raise PreconditionFailed(f"max_length is {config.max_length}, and the model takes at most {most} tokens")
        return config.max_length
    stated = (tokenizer.model_max_length, most)
    return min((each for each in stated if isinstance(each, int) and 0 < each < _UNKNOWN_LENGTH), default=None)


def positions(attributes: Mapping[str, Any]) -> int | None:
    """The tokens for which a model has positions; None where its config.json states none.

    Some tables begin after the padding token's id: RoBERTa's of 514 rows is for 512 tokens. DeBERTa's may have none.
    """
    if attributes.get("position_biased_input") is False:
        return None
    stated = [attributes[name] for name in _POSITIONS if isinstance(attributes.get(name), int)]
    if not stated:
        return None
    padding = attributes.get("pad_token_id")
    lost = (1 if padding is None else int(padding)) + 1 if attributes.get("model_type") in _FROM_PADDING else 0
    return max(stated) - lost

"""From rows of text to sequences of tokens, with the model's tokenizer: a corpus, or prompts with answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt.api.config import ReportProgress
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.corpus import STRATEGIES, Tokens
from hfopt_hf_data.next_tokens import IDS, SEEN
from hfopt_hf_data.preparing import BATCH, Columns, Given, Prepared, batches_of
from hfopt_hf_data.tokenise import positions
from hfopt_hf_data.wording import Wording, pair, wording

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


def prepare(given: Given) -> Prepared:
    """Sequences of tokens, and how many of the first are context where that is not 0 for all."""
    config, tokenizer = given.config, given.processor.tokenizer
    found = sequences(given.data, config, tokenizer, given.attributes, given.progress)
    seen = config.dataset_type == "pair" or config.corpus_strategy == "join-sliding-window"
    fillers = [each for each in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if each is not None]
    width = longest(config) if config.pad_to_max_len else None
    layout = {"fillers": {IDS: fillers[0]}, "side": tokenizer.padding_side, "width": width}
    return Prepared(_columns(found, seen=seen), layout, {SEEN: "place"})


def _columns(found: Iterator[Tokens], *, seen: bool) -> Iterator[Columns]:
    while batch := [*islice(found, BATCH)]:
        yield {IDS: [each.ids for each in batch], **({SEEN: [each.seen for each in batch]} if seen else {})}


class Side:
    """One text of each row, with what stands before and after it.

    :param before: the token that begins it, as text; None: there is none
    """

    def __init__(
        self,
        worded: Wording,
        data: datasets.Dataset,
        tokenizer: PreTrainedTokenizerBase,
        before: str | None,
        after: str | None,
    ) -> None:
        columns = list(worded.columns or data.column_names)
        check_columns(data, columns)
        self.data = data.select_columns(list(dict.fromkeys(columns)))
        self._worded, self._tokenizer, self._around = worded, tokenizer, (before, after)

    def encode(self, batch: Mapping[str, Sequence[Any]], start: int, most: int | None) -> list[list[int]]:
        """Tokens of some rows' texts, cut to so many."""
        texts = self._worded.texts(batch, start)
        before, after = self._around
        if before or after:
            texts = [" ".join([part for part in (before, text, after) if part is not None]) for text in texts]
        return encoded(self._tokenizer, texts, most)


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], most: int | None) -> list[list[int]]:
    """Their tokens, and none that the tokenizer would add."""
    found: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=most is not None,
        max_length=most,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return found


class Lines:
    """The texts of a corpus, tokenised as they are asked for."""

    def __init__(self, side: Side, size: int, progress: ReportProgress) -> None:
        self._side, self._size, self._progress = side, size, progress

    def __len__(self) -> int:
        return len(self._side.data)

    def tokens(self, start: int, stop: int, most: int | None = None) -> list[list[int]]:
        return self._side.encode(self._side.data[start:stop], start, most)

    def batches(self, most: int | None = None) -> Iterator[list[list[int]]]:
        for start, batch in batches_of(self._side.data, self._size):
            found = self._side.encode(batch, start, most)
            self._progress("tokenise", start + len(found), len(self))
            yield found


def sequences(
    data: datasets.Dataset,
    config: HuggingfaceContainerConfig,
    tokenizer: PreTrainedTokenizerBase,
    attributes: Mapping[str, Any],
    progress: ReportProgress,
) -> Iterator[Tokens]:
    """The sequences that the config means, at most ``max_samples``.

    :param attributes: the model's config.json
    :raises PreconditionFailed: a column or text that is not there; more tokens than the model takes; nothing is left
    """
    length = _length(config, attributes)
    if not len(data):
        raise PreconditionFailed("the data have no rows")
    found = (_pairs if config.dataset_type == "pair" else _corpus)(data, config, tokenizer, progress)
    none = True
    for each in islice(found, config.max_samples):
        none = False
        yield each
    if none:
        said = f"the texts yield no sequence of {length} tokens" if _full(config) else "the texts have no tokens"
        raise PreconditionFailed(said, hint="set source_max_len to less" if _full(config) else None)


def longest(config: HuggingfaceContainerConfig) -> int:
    """The most tokens that a sequence may have."""
    return (config.source_max_len or 0) + (config.target_max_len or 0)


def _full(config: HuggingfaceContainerConfig) -> bool:
    """Whether only sequences of the full length are kept."""
    return config.drop_short_sequences or (config.corpus_strategy or "").startswith("join")


def _length(config: HuggingfaceContainerConfig, attributes: Mapping[str, Any]) -> int:
    length = longest(config)
    most = positions(attributes)
    if most is not None and length > most:
        which = "source_max_len and target_max_len are together" if config.target_max_len else "source_max_len is"
        raise PreconditionFailed(f"{which} {length}, and the model takes at most {most} tokens")
    return length


def _special(config: HuggingfaceContainerConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, str | None]:
    """The tokens that begin and end a text, where the tokenizer has them."""
    return (tokenizer.bos_token, tokenizer.eos_token) if config.add_special_tokens else (None, None)


def _corpus(
    data: datasets.Dataset,
    config: HuggingfaceContainerConfig,
    tokenizer: PreTrainedTokenizerBase,
    progress: ReportProgress,
) -> Iterator[Tokens]:
    side = Side(wording(config), data, tokenizer, *_special(config, tokenizer))
    joiner = encoded(tokenizer, [config.joiner], None)[0] if config.joiner else []
    lines = Lines(side, config.processing_batch_size, progress)
    return STRATEGIES[config.corpus_strategy or ""](lines, config, joiner, longest(config))


def _pairs(
    data: datasets.Dataset,
    config: HuggingfaceContainerConfig,
    tokenizer: PreTrainedTokenizerBase,
    progress: ReportProgress,
) -> Iterator[Tokens]:
    """Prompt and answer as one sequence."""
    begin, end = _special(config, tokenizer)
    prompt, answer = pair(config)
    asked, said = Side(prompt, data, tokenizer, begin, None), Side(answer, data, tokenizer, None, end)
    least = longest(config) if config.drop_short_sequences else 1
    both = data.select_columns(list(dict.fromkeys([*asked.data.column_names, *said.data.column_names])))
    for start, batch in batches_of(both, config.processing_batch_size):
        prompts = asked.encode({name: batch[name] for name in asked.data.column_names}, start, config.source_max_len)
        answers = said.encode({name: batch[name] for name in said.data.column_names}, start, config.target_max_len)
        progress("tokenise", start + len(prompts), len(data))
        for source, target in zip(prompts, answers, strict=True):
            if len(source) + len(target) >= least:
                yield Tokens([*source, *target], len(source) if config.ignore_source_in_labels else 0)

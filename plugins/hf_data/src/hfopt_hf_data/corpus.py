"""The five ways in which texts become sequences of tokens, one after the other: texts are never all in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from hfopt_hf_data.config import HuggingfaceContainerConfig

Ids = Sequence[int]


class Tokens(NamedTuple):
    """One sequence.

    :param seen: how many of its first tokens are context only: not to be predicted
    """

    ids: Ids
    seen: int = 0


class Texts(Protocol):
    """Tokenised texts, by number."""

    def __len__(self) -> int: ...

    def tokens(self, start: int, stop: int, most: int | None = None) -> list[list[int]]:
        """Of some texts, each cut to so many."""
        ...

    def batches(self, most: int | None = None) -> Iterator[list[list[int]]]:
        """Of all texts, in order."""
        ...


def line_by_line(texts: Texts, config: HuggingfaceContainerConfig, joiner: Ids, length: int) -> Iterator[Tokens]:
    """Every text on its own, cut to the length."""
    least = length if config.drop_short_sequences else 1
    for batch in texts.batches(length):
        yield from (Tokens(ids) for ids in batch if len(ids) >= least)


def line_by_line_random(texts: Texts, config: HuggingfaceContainerConfig, joiner: Ids, length: int) -> Iterator[Tokens]:
    """Texts drawn with replacement."""
    least = length if config.drop_short_sequences else 1
    return _drawn(texts, config, least, lambda start: texts.tokens(start, start + 1, length)[0])


def join(texts: Texts, config: HuggingfaceContainerConfig, joiner: Ids, length: int) -> Iterator[Tokens]:
    """All texts as one, cut into blocks; what is left at the end is shorter and is left out."""
    return (Tokens(ids) for ids in _windows(texts, joiner, length, length))


def join_random(texts: Texts, config: HuggingfaceContainerConfig, joiner: Ids, length: int) -> Iterator[Tokens]:
    """Blocks of that text that begin where a text drawn at random does."""

    def block(start: int) -> Ids:
        found: list[int] = []
        stop, step = start, 1
        while len(found) < length and stop < len(texts):
            for ids in texts.tokens(stop, min(stop + step, len(texts))):
                found += ids
                found += joiner
            stop, step = stop + step, min(2 * step, config.processing_batch_size)
        return found[:length]

    return _drawn(texts, config, length, block)


def join_sliding_window(texts: Texts, config: HuggingfaceContainerConfig, joiner: Ids, length: int) -> Iterator[Tokens]:
    """Windows of that text, each `stride` further on: what the one before held is context."""
    stride, seen = config.stride or length, 0
    for ids in _windows(texts, joiner, length, stride):
        yield Tokens(ids, seen)
        seen = length - stride


Strategy = Callable[[Texts, HuggingfaceContainerConfig, Ids, int], Iterator[Tokens]]
STRATEGIES: Mapping[str, Strategy] = {
    "line-by-line": line_by_line,
    "line-by-line-random": line_by_line_random,
    "join": join,
    "join-random": join_random,
    "join-sliding-window": join_sliding_window,
}


def _windows(texts: Texts, joiner: Ids, length: int, stride: int) -> Iterator[Ids]:
    """So many tokens at a time of all texts together, and so many further on."""
    held: list[int] = []
    for batch in texts.batches():
        for ids in batch:
            held += ids
            held += joiner
        start = 0
        while start + length <= len(held):
            yield held[start : start + length]
            start += stride
        del held[:start]


def _drawn(
    texts: Texts, config: HuggingfaceContainerConfig, least: int, sequence: Callable[[int], Ids]
) -> Iterator[Tokens]:
    """As many sequences as `max_samples` says, but none for which every draw yields too few tokens."""
    draw = random.Random(config.random_seed)  # noqa: S311 - a sample, no secret
    for _ in range(config.max_samples or 0):
        for _ in range(1 + config.random_retries):
            ids = sequence(draw.randrange(len(texts)))
            if len(ids) >= least:
                yield Tokens(ids)
                break

"""Tokens that a model writes after prompts, one by one, each the likeliest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hfopt import Session
from hfopt.api.example import MASK
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.seq2seq import DECODER_IDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRESENT = "present"


def greedy(session: Session, ids: NDArray[Any], mask: NDArray[Any], count: int) -> NDArray[Any]:
    """The likeliest next tokens, [prompts, count].

    What the model keeps of earlier tokens is given back to it; one that keeps nothing gets all tokens anew.

    :param session: takes ``input_ids``; what else it takes, it fills in
    :param ids: prompts, padded before their first token
    :param mask: 1 where a token is
    """
    import numpy as np

    def feeds(tokens: NDArray[Any], after: int) -> Mapping[str, NDArray[Any]]:
        return {"input_ids": tokens, MASK: np.pad(mask, ((0, 0), (0, after)), constant_values=1)}

    return _greedy(session, ids, feeds, count)


def greedy_after(session: Session, read: Mapping[str, NDArray[Any]], start: NDArray[Any], count: int) -> NDArray[Any]:
    """The likeliest tokens that an encoder-decoder model writes, [rows, count].

    :param read: what its encoder takes
    :param start: the decoder's first tokens, [rows, tokens]
    """
    return _greedy(session, start, lambda tokens, _: {**read, DECODER_IDS: tokens}, count)


def _greedy(
    session: Session,
    ids: NDArray[Any],
    feeds: Callable[[NDArray[Any], int], Mapping[str, NDArray[Any]]],
    count: int,
) -> NDArray[Any]:
    """The loop of both.

    :param feeds: what a step gets besides the past: of its tokens, and of how many were written before
    """
    import numpy as np

    written, past = ids, dict[str, "NDArray[Any]"]()
    for step in range(count):
        tokens = written[:, -1:] if past else written
        found = session.run({**feeds(tokens, step), **past})
        token = found["logits"][:, -1].argmax(-1)[:, None].astype(ids.dtype)
        written = np.concatenate([written, token], axis=1)
        # a later step keeps what the first one has made of the encoder's states
        past |= {name.replace(PRESENT, PAST, 1): each for name, each in found.items() if name.startswith(f"{PRESENT}.")}
    return written[:, ids.shape[1] :]

"""Tokens that a model writes after prompts, one by one, each the likeliest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Session
from hfopt.api.example import MASK
from hfopt_onnx_model.filling import PAST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

PRESENT = "present"
IDS, DECODER_IDS = "input_ids", "decoder_input_ids"
"""What a model goes on with: a decoder's ids, where an encoder reads others."""


def following(feeds: Feeds, found: Feeds) -> Feeds:
    """What a model gets after texts: the likeliest next token of each, and what it has kept.

    One that keeps nothing gets the texts anew, each with that token at its end.

    :param feeds: the texts, [rows, tokens], padded before their first token; and what a model takes besides
    :param found: what the model returned for them
    :raises PreconditionFailed: it does not write text
    """
    import numpy as np

    name = DECODER_IDS if DECODER_IDS in feeds else IDS
    ids, logits = feeds.get(name), found.get("logits")
    if ids is None or logits is None or logits.ndim != 3:
        raise PreconditionFailed(f"it does not write text: that takes {IDS}, and returns logits of every token")
    token = logits[:, -1].argmax(-1)[:, None].astype(ids.dtype)
    past = {key.replace(PRESENT, PAST, 1): each for key, each in found.items() if key.startswith(f"{PRESENT}.")}
    more = {} if name == DECODER_IDS else {MASK: np.pad(feeds.get(MASK, ids**0), ((0, 0), (0, 1)), constant_values=1)}
    same = {key: each for key, each in feeds.items() if key != "position_ids"}
    # a later step keeps what the first one has made of the encoder's states
    return {**same, **more, name: token if past else np.concatenate([ids, token], axis=1), **past}


def greedy(session: Session, feeds: Feeds, count: int) -> NDArray[Any]:
    """The likeliest next tokens, [rows, count].

    :param feeds: of the first step: ``input_ids`` and ``attention_mask``, or what an encoder reads and
        ``decoder_input_ids``; what else the model takes, it fills in
    """
    import numpy as np

    written = []
    for _ in range(count):
        feeds = following(feeds, session.run(feeds))
        written.append(feeds[DECODER_IDS if DECODER_IDS in feeds else IDS][:, -1:])
    return np.concatenate(written, axis=1)

"""Tokens that a model writes after prompts, one by one, each the likeliest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfopt import Session
from hfopt.api.example import MASK
from hfopt_onnx_model.filling import PAST

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

    written = ids
    feeds = {"input_ids": ids, MASK: mask}
    for _ in range(count):
        found = session.run(feeds)
        token = found["logits"][:, -1].argmax(-1)[:, None].astype(ids.dtype)
        written = np.concatenate([written, token], axis=1)
        mask = np.concatenate([mask, np.ones_like(token)], axis=1)
        past = {name.replace(PRESENT, PAST, 1): each for name, each in found.items() if name.startswith(f"{PRESENT}.")}
        feeds = {"input_ids": token if past else written, MASK: mask, **past}
    return written[:, ids.shape[1] :]

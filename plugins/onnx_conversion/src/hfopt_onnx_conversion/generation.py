"""Whether an exported model writes what the PyTorch model writes: greedy tokens after made-up prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle, Session
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import greedy

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = (5, 3, 8)
"""Tokens of the prompts, which are one batch."""
TOKENS = 32


@dataclass(frozen=True)
class Written:
    """Prompts, padded before their first token, and what PyTorch writes after them."""

    ids: NDArray[Any]
    mask: NDArray[Any]
    tokens: NDArray[Any]


def writes(model: ModelHandle) -> bool:
    """Whether it takes what it has kept of earlier tokens."""
    return any(spec.name.startswith(f"{PAST}.") for spec in model.inputs)


def write(source: Session, model: ModelHandle) -> Written | None:
    """What transformers' own ``generate`` writes; None if it has too few positions for a prompt, or no such method.

    :param source: its ``live`` is or holds transformers' model
    """
    import numpy as np
    import torch
    from transformers import GenerationConfig, GenerationMixin

    vocabulary = next(spec.high for spec in model.inputs if spec.name == "input_ids") or 2
    positions = model.attributes.get("max_position_embeddings") or max(LENGTHS) + TOKENS
    count = min(TOKENS, positions - max(LENGTHS))
    network = next((part for part in source.live.modules() if isinstance(part, GenerationMixin)), None)
    if count < 1 or network is None:
        return None
    ids = np.random.default_rng(0).integers(0, vocabulary, (len(LENGTHS), max(LENGTHS)))
    mask = (np.arange(max(LENGTHS)) >= max(LENGTHS) - np.array(LENGTHS)[:, None]).astype(np.int64)
    greedily = GenerationConfig(min_new_tokens=count, max_new_tokens=count, do_sample=False, pad_token_id=0)
    own, network.generation_config = network.generation_config, greedily  # else it adds penalties, sampling, an end
    try:
        with torch.inference_mode():
            found = network.generate(
                torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), generation_config=greedily
            )
    finally:
        network.generation_config = own
    return Written(ids, mask, found[:, max(LENGTHS) :].numpy())


def compare(written: Written, made: Session) -> dict[str, Any]:
    """How many tokens are those that PyTorch writes; those after one that differs follow from it and are not."""
    import numpy as np

    tokens = greedy(made, written.ids, written.mask, written.tokens.shape[1])
    equal = int(np.cumprod(tokens == written.tokens, axis=1).sum())
    return {"equal": equal, "of": tokens.size}

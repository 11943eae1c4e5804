"""Whether an exported model writes what the PyTorch model writes: greedy tokens after made-up prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle, Session
from hfopt.api.example import BATCH_AXIS, MASK, example_feeds
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import DECODER_IDS, greedy

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = (5, 3, 8)
"""Tokens of the prompts, which are one batch."""
TOKENS = 32
FEW_TOKENS = 4
"""Of a model whose weights stay in their files: they are read for each."""


@dataclass(frozen=True)
class Written:
    """What PyTorch writes after some prompts.

    :param tokens: [prompts, tokens]
    :param again: lets another model write as many tokens after the same prompts
    """

    tokens: NDArray[Any]
    again: Callable[[Session], NDArray[Any]]


def writes(model: ModelHandle) -> bool:
    """Whether it takes prompts, and what it has kept of earlier tokens."""
    return any(spec.name == f"{PAST}.0.key" for spec in model.inputs)


def write(source: Session, model: ModelHandle) -> Written | None:
    """What transformers' own ``generate`` writes; None if it has too few positions for a prompt, or no such method.

    Where weights stay in their files, a few tokens are written without that method, which wants a device.

    :param source: its ``live`` is or holds transformers' model
    """
    if any(spec.name == DECODER_IDS for spec in model.inputs):
        return _after_reading(source, model)
    import numpy as np
    import torch

    vocabulary = next(spec.high for spec in model.inputs if spec.name == "input_ids") or 2
    count, network = _count(model, max(LENGTHS)), _network(source)
    if count < 1 or network is None:
        return None
    ids = np.random.default_rng(0).integers(0, vocabulary, (len(LENGTHS), max(LENGTHS)))
    mask = (np.arange(max(LENGTHS)) >= max(LENGTHS) - np.array(LENGTHS)[:, None]).astype(np.int64)
    feeds = {"input_ids": ids, MASK: mask}
    if source.stored:
        count = min(count, FEW_TOKENS)
        tokens = greedy(source, feeds, count)
    else:
        found = _generate(network, count, inputs=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        tokens = found[:, max(LENGTHS) :]
    return Written(tokens, lambda session: greedy(session, feeds, count))


def _after_reading(source: Session, model: ModelHandle) -> Written | None:
    """The same of an encoder-decoder model, whose encoder gets the prompts."""
    import numpy as np
    import torch

    read = [spec for spec in model.inputs if spec.name != DECODER_IDS]
    axes = {axis for spec in read for axis in spec.axes if isinstance(axis, str)}
    feeds = example_feeds(read, dict.fromkeys(axes, max(LENGTHS)) | {BATCH_AXIS: len(LENGTHS)}, padded=True)
    count, network = _count(model, 1), _network(source)
    if count < 1 or network is None:
        return None
    names = ("decoder_start_token_id", "bos_token_id", "eos_token_id")
    first = next((each for name in names if isinstance(each := model.attributes.get(name), int)), 0)
    start = np.full((len(LENGTHS), 1), first)
    tensors = {name: torch.from_numpy(each) for name, each in feeds.items()}
    found = _generate(network, count, first, **tensors)
    return Written(found[:, 1:], lambda session: greedy(session, {**feeds, DECODER_IDS: start}, count))


def compare(written: Written, made: Session) -> dict[str, Any]:
    """How many tokens are those that PyTorch writes; those after one that differs follow from it and are not."""
    import numpy as np

    equal = int(np.cumprod(written.again(made) == written.tokens, axis=1).sum())
    return {"equal": equal, "of": written.tokens.size}


def _count(model: ModelHandle, taken: int) -> int:
    """How many tokens a model has positions for, after some; at most `TOKENS`."""
    names = ("max_target_positions", "max_position_embeddings")
    positions = next((each for name in names if isinstance(each := model.attributes.get(name), int)), taken + TOKENS)
    return min(TOKENS, positions - taken)


def _network(source: Session) -> Any:
    """The model of transformers in a PyTorch module that can write; None if there is none."""
    from transformers import GenerationMixin

    return next((part for part in source.live.modules() if isinstance(part, GenerationMixin)), None)


def _generate(network: Any, count: int, start: int | None = None, **inputs: Any) -> NDArray[Any]:
    """Tokens of transformers' plain greedy loop, those that it was given before them.

    :param network: a model of transformers
    :param start: the token before the first that a decoder writes
    """
    import torch
    from transformers import GenerationConfig, GenerationMixin

    ids = {"pad_token_id": 0, "decoder_start_token_id": start}
    greedily = GenerationConfig(min_new_tokens=count, max_new_tokens=count, do_sample=False, **ids)
    own, network.generation_config = network.generation_config, greedily  # else it adds penalties, sampling, an end
    try:
        with torch.inference_mode():  # of the base: a model of speech has a loop of its own around it
            found = GenerationMixin.generate(network, **inputs, generation_config=greedily)
    finally:
        network.generation_config = own
    tokens: NDArray[Any] = found.numpy()
    return tokens

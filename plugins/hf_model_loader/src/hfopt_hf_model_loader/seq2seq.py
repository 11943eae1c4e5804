"""Encoder-decoder models as parts under optimum's names: the encoder, the decoder's first step, its later steps.

The first step computes keys and values of the encoder's states; later steps get them back, with those of its tokens.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, TensorSpec
from hfopt.api.example import BATCH_AXIS, MASK, PAST_AXIS, example_feeds
from hfopt_hf_model_loader.architecture import own_code
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import DECODER_IDS, PRESENT
from hfopt_onnx_model.seq2seq import DECODER, ENCODER, HIDDEN, LATER, STATES, STATES_MASK

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

STATES_AXIS = "encoder_sequence_length"
SIDES = ("decoder", "encoder")
"""Whose keys and values a layer of the decoder keeps: of its own tokens, then of the encoder's states."""
_TOKENS = 3


def is_seq2seq(model_class: type[Any]) -> bool:
    """Whether a model has an encoder, and a decoder with tokens of its own."""
    forward = getattr(model_class, "forward", None)  # a script of PyTorch's has none in its class
    return forward is not None and DECODER_IDS in inspect.signature(forward).parameters


def parts(
    model_class: type[PreTrainedModel], own: PretrainedConfig, whole: Sequence[TensorSpec], feature: str
) -> dict[str, tuple[TensorSpec, ...]]:
    """What each part takes, by the part's name.

    :param whole: what the model takes
    :param feature: of such a model without what it keeps, for the error
    :raises PreconditionFailed: it keeps something else than keys and values, or reads a mask that is not of its states
    """
    encoder = tuple(spec for spec in whole if spec.name != DECODER_IDS)
    masked = any(spec.name == MASK for spec in encoder)
    hint = f"write feature: {feature} in hf_config for a model without what it keeps"
    if masked and not any(spec.name == "input_ids" for spec in encoder):
        raise PreconditionFailed(
            f"the mask of {model_class.__name__} is not of its encoder's states: parts of it can't read it", hint=hint
        )
    kept, width = _kept(model_class, own, whole)
    if not kept:
        raise PreconditionFailed(
            f"{model_class.__name__} does not keep keys and values of its decoder's tokens and of its encoder's states",
            hint=hint,
        )
    ids = next(spec for spec in whole if spec.name == DECODER_IDS)
    mask = [TensorSpec(name=STATES_MASK, dtype="int64", axes=(BATCH_AXIS, STATES_AXIS), high=2)] if masked else []
    first = [ids.model_copy(update={"name": "input_ids"}), *mask]
    states = TensorSpec(name=STATES, dtype="float32", axes=(BATCH_AXIS, STATES_AXIS, width))
    past = [
        TensorSpec(
            name=f"{PAST}.{number}.{side}.{kind}",
            dtype="float32",
            axes=(BATCH_AXIS, shape[1], PAST_AXIS if side == SIDES[0] else STATES_AXIS, shape[3]),
        )
        for number, layer in enumerate(kept)
        for side, shapes in layer.items()
        for kind, shape in shapes.items()
    ]
    return {ENCODER: encoder, DECODER: (*first, states), LATER: (*first, *past)}


def _kept(
    model_class: type[PreTrainedModel], own: PretrainedConfig, whole: Sequence[TensorSpec]
) -> tuple[list[dict[str, dict[str, Sequence[int]]]], int]:
    """The shapes of what each layer keeps, and the width of the encoder's states, computed without weights."""
    import torch

    sized = copy.deepcopy(own)
    sized._attn_implementation = "eager"  # others look at a mask's values, and here are none
    unmasked = [spec for spec in whole if spec.name != MASK]
    axes = {axis for spec in unmasked for axis in spec.axes if isinstance(axis, str)}
    feeds = example_feeds(unmasked, dict.fromkeys(axes, _TOKENS))
    with own_code(f"{model_class.__name__} can't be run without its weights"), torch.device("meta"):
        model = model_class(sized).eval()
        tensors = {name: torch.from_numpy(each).to("meta") for name, each in feeds.items()}
        found = model(**tensors, use_cache=True)
    past = getattr(found, PAST, None)
    caches = [getattr(past, name, None) for name in ("self_attention_cache", "cross_attention_cache")]
    if None in caches:
        return [], 0
    layers = zip(*(cache.layers for cache in caches), strict=True)
    kept = [
        {side: {"key": each.keys.shape, "value": each.values.shape} for side, each in zip(SIDES, layer, strict=True)}
        for layer in layers
    ]
    return kept, found.encoder_last_hidden_state.shape[-1]


def part_of(model: PreTrainedModel, inputs: Iterable[str]) -> torch.nn.Module:
    """The part that takes these inputs; the model itself if they are its own."""
    names = {*inputs}
    if DECODER_IDS in names:
        return model
    decodes = STATES in names or any(name.startswith(f"{PAST}.") for name in names)
    return decoder(model) if decodes else encoder(model)


def encoder(model: PreTrainedModel) -> torch.nn.Module:
    """What the encoder computes: ``last_hidden_state``."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model.get_encoder()

        def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            return {HIDDEN: self.encoder(**tensors).last_hidden_state}

    return Encoder().eval()


def decoder(model: PreTrainedModel) -> torch.nn.Module:
    """A step of the decoder: ``logits``, and ``present.N.decoder.key`` of all tokens; of the encoder in the first."""
    import torch
    from transformers import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            kept = [each.to(self.model.dtype) for name, each in tensors.items() if name.startswith(f"{PAST}.")]
            own, cross = ([*zip(kept[at::4], kept[at + 1 :: 4], strict=True)] for at in (0, 2))
            # of states whose keys and values are there, only the shape is read
            states = tensors[STATES] if STATES in tensors else cross[0][0].transpose(1, 2).flatten(2)
            found = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=states.to(self.model.dtype)),
                attention_mask=tensors.get(STATES_MASK),
                decoder_input_ids=input_ids,
                past_key_values=EncoderDecoderCache(_cache(own), _cache(cross)),
                use_cache=True,
            )
            caches = [found.past_key_values.self_attention_cache, found.past_key_values.cross_attention_cache]
            sides = dict(zip(SIDES, caches[: 1 if cross else 2], strict=False))
            outputs = {"logits": found.logits}
            for number in range(len(caches[0].layers)):
                for side, cache in sides.items():
                    layer = cache.layers[number]
                    outputs |= _named(f"{PRESENT}.{number}.{side}", layer)
            return outputs

    def _cache(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> DynamicCache:
        return DynamicCache(pairs) if pairs else DynamicCache()

    return Decoder().eval()


def _named(prefix: str, layer: Any) -> Mapping[str, torch.Tensor]:
    return {f"{prefix}.key": layer.keys, f"{prefix}.value": layer.values}

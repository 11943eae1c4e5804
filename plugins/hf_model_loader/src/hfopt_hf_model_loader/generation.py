"""Models that write text: what they keep of earlier tokens is an input and an output, under optimum's names."""

from __future__ import annotations

import copy
import inspect
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle, PreconditionFailed, TensorSpec
from hfopt.api.example import BATCH_AXIS, MASK, PAST_AXIS
from hfopt_hf_model_loader.architecture import own_code
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.inputs import TEXT_AXES
from hfopt_hf_model_loader.seq2seq import is_seq2seq
from hfopt_hf_model_loader.tasks import WITH_PAST
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import PRESENT
from hfopt_onnx_model.seq2seq import DECODER, LATER

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

TASK = "text-generation"
WITHOUT = "causal-lm"
SEQ2SEQ = {
    "automatic-speech-recognition": "speech2seq-lm",
    "summarization": "seq2seq-lm",
    "text2text-generation": "seq2seq-lm",
    "translation": "seq2seq-lm",
}
"""Tasks whose models with a decoder keep its past, and the feature of one without."""
MOST_POSITIONS = 128
"""Of examples; more may count as a long text, for which some models compute something else."""


def keeps_past(config: HfConfig, model_class: type[Any]) -> bool:
    """Whether the model is to take and return keys and values of earlier tokens."""
    if (config.arguments.extra_args or {}).get("use_cache") is False:
        return False
    if config.feature is not None:
        return config.feature.endswith(WITH_PAST)
    return config.task == TASK or (config.task in SEQ2SEQ and is_seq2seq(model_class))


def inputs(model_class: type[PreTrainedModel], own: PretrainedConfig) -> tuple[TensorSpec, ...]:
    """Tokens, the mask of these and earlier ones, positions where the model takes them, and what each layer keeps.

    :raises PreconditionFailed: it keeps something else, or nothing
    """
    both = (BATCH_AXIS, f"{PAST_AXIS} + {TEXT_AXES[1]}")
    text = own.get_text_config(decoder=True)
    positions = min(getattr(text, "max_position_embeddings", None) or MOST_POSITIONS, MOST_POSITIONS)
    specs = [
        TensorSpec(name="input_ids", dtype="int64", axes=TEXT_AXES, high=text.vocab_size),
        TensorSpec(name=MASK, dtype="int64", axes=both, high=2),
    ]
    if "position_ids" in inspect.signature(model_class.forward).parameters:
        specs.append(TensorSpec(name="position_ids", dtype="int64", axes=TEXT_AXES, high=positions))
    for number, layer in enumerate(_kept(model_class, own)):
        for part in ("key", "value"):
            _, heads, _, width = getattr(layer, f"{part}s").shape
            axes = (BATCH_AXIS, heads, PAST_AXIS, width)
            specs.append(TensorSpec(name=f"{PAST}.{number}.{part}", dtype="float32", axes=axes))
    return tuple(specs)


def _kept(model_class: type[PreTrainedModel], own: PretrainedConfig) -> list[Any]:
    """What each layer keeps of two texts of three tokens, computed without weights: shapes alone."""
    import torch

    sized = copy.deepcopy(own)
    sized.pad_token_id = None  # else it looks for that among tokens, which have no values here
    with own_code(f"{model_class.__name__} can't be run without its weights"), _shapes_alone():
        model = model_class(sized).eval()
        found = model(input_ids=torch.zeros(2, 3, dtype=torch.long), use_cache=True)
    layers = list(getattr(getattr(found, PAST, None), "layers", ()))
    if not layers or any(getattr(layer, "keys", None) is None or layer.keys.shape[2] != 3 for layer in layers):
        raise PreconditionFailed(
            f"{model_class.__name__} does not keep keys and values of earlier tokens in every layer",
            hint=f"write feature: {WITHOUT} in hf_config for a model without what it keeps",
        )
    return layers


def _shapes_alone() -> AbstractContextManager[Any]:
    """Tensors that are made in it have no values.

    PyTorch's device for that lacks autocast, which models of transformers 4 use.
    """
    import torch
    import transformers

    if transformers.__version__.startswith("4."):
        from torch._subclasses.fake_tensor import FakeTensorMode

        return FakeTensorMode()
    return torch.device("meta")


def steps(whole: ModelHandle) -> dict[str, ModelHandle]:
    """A model that keeps a past as two: what takes prompts alone, and what takes tokens after others."""
    first = [spec for spec in whole.inputs if not spec.name.startswith(f"{PAST}.")]
    alone = [spec.model_copy(update={"axes": TEXT_AXES}) if spec.name == MASK else spec for spec in first]
    part = whole.with_(files=())
    return {DECODER: part.with_(inputs=tuple(alone)), LATER: part}


def with_past(model: PreTrainedModel) -> torch.nn.Module:
    """A module of tensors alone: ``past_key_values.N.key`` in, ``present.N.key`` out."""
    import torch
    from transformers import DynamicCache

    class CausalLMWithPast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            kept = [tensors.pop(name).to(self.model.dtype) for name in list(tensors) if name.startswith(f"{PAST}.")]
            past = DynamicCache(list(zip(kept[::2], kept[1::2], strict=True)))
            found = self.model(**tensors, past_key_values=past, use_cache=True)
            outputs = {"logits": found.logits}
            for number, layer in enumerate(found.past_key_values.layers):
                outputs |= {f"{PRESENT}.{number}.key": layer.keys, f"{PRESENT}.{number}.value": layer.values}
            return outputs

    return CausalLMWithPast().eval()

"""Decoders whose larger weights stay in their files: each is read when its layer runs, and let go when that has run.

transformers loads such a model as any other, from stand-ins that take no memory: how it renames and ties weights is its
own business, and shows in where the stand-ins are afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle, PreconditionFailed
from hfopt.api.example import BATCH_AXIS, PAST_AXIS, example_feeds
from hfopt_hf_model_loader import generation
from hfopt_hf_model_loader.arguments import from_pretrained_arguments
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.inputs import TEXT_AXES
from hfopt_hf_model_loader.session import TorchSession, load
from hfopt_onnx_model import weights

if TYPE_CHECKING:
    import torch

Read = Callable[..., "torch.Tensor"]

LARGE = 1 << 20
"""Numbers of a weight from which it stays in its file."""


def opened(handle: ModelHandle, config: PyTorchModelConfig, attention: str | None) -> TorchSession | None:
    """A decoder that keeps keys and values, on the CPU, with its larger weights left in their files.

    :return: None if it has few, or they can't stay there: they are not in safetensors, or not as the model has them, or
        a module uses those of another
    """
    if not _suits(handle, config):
        return None
    given: dict[str, torch.Tensor] = {}
    reads: dict[int, Read] = {}
    dtype = from_pretrained_arguments(config.hugging_face.arguments, attention, "cpu")["dtype"]
    for name, tensor, read in _tensors(handle.files, dtype):
        given[name] = tensor
        if read is not None:
            reads[tensor.data_ptr()] = read
    model = load(handle.path, config, "cpu", attention, {**given})  # which it may empty: an address is one tensor's
    stored = {name: reads[each.data_ptr()] for name, each in model.named_parameters() if each.data_ptr() in reads}
    _leave(model, stored)
    if any(each.isnan().any() for each in model.state_dict().values() if not each.is_meta and each.is_floating_point()):
        return None
    session = TorchSession(generation.with_past(model), handle.inputs)
    session.stored = {f"model.{name}": read for name, read in stored.items()}
    try:
        session.run(example_feeds(handle.inputs, {BATCH_AXIS: 1, PAST_AXIS: 1, TEXT_AXES[1]: 1}))
    except PreconditionFailed:
        return None
    return session


def _suits(handle: ModelHandle, config: PyTorchModelConfig) -> bool:
    """Whether the model is a large decoder, and its weights are all in safetensors and loaded as they are."""
    arguments = config.hugging_face.arguments
    changed = config.file or config.adapter or arguments.max_memory or arguments.quantization_method
    kinds = {path.suffix for path in handle.files}
    return (
        handle.size_bytes >= weights.HELD
        and any(spec.name == f"{generation.PAST}.0.key" for spec in handle.inputs)
        and kinds <= {".json", ".safetensors"}
        and not changed
        and "quantization_config" not in handle.attributes
    )


def _tensors(files: tuple[Path, ...], dtype: str) -> Iterator[tuple[str, torch.Tensor, Read | None]]:
    """Every tensor of the files by its name there: itself, or one number in its shape, and what reads it.

    :param dtype: that the model will have; ``auto``: each tensor its own
    """
    import torch
    from safetensors import safe_open

    for file in files:
        if file.suffix == ".json":
            continue
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                tensor = tensors.get_tensor(name)  # mapped into memory, and not read
                if tensor.is_floating_point() and tensor.numel() >= LARGE:
                    own = tensor.dtype if dtype == "auto" else getattr(torch, dtype)
                    stand_in = torch.full((1,), nan, dtype=own).expand(tensor.shape)
                    yield name, stand_in, partial(_read, file, name)
                else:
                    yield name, tensor.clone(), None


def _read(file: Path, name: str, *slices: slice) -> torch.Tensor:
    """A weight, mapped into memory for as long as it is used."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        tensor: torch.Tensor = tensors.get_tensor(name)
    return tensor[slices]


def _leave(model: torch.nn.Module, stored: Mapping[str, Read]) -> None:
    """Take weights out of a model, and have each module read its own."""
    import torch

    reads = {model.get_parameter(name): read for name, read in stored.items()}
    places = {
        each: torch.nn.Parameter(torch.empty(each.shape, dtype=each.dtype, device="meta"), requires_grad=False)
        for each in reads
    }
    for module in model.modules():
        own = {name: each for name, each in module._parameters.items() if each is not None and each in reads}
        if own:
            reader = _Reader({name: reads[each] for name, each in own.items()})
            module._parameters.update({name: places[each] for name, each in own.items()})
            module.register_forward_pre_hook(reader.before)
            module.register_forward_hook(reader.after, always_call=True)


class _Reader:
    """Reads the weights of a module before it runs, unless somebody has given it some, and lets them go afterwards."""

    def __init__(self, reads: Mapping[str, Read]) -> None:
        self._reads = reads
        self._places: dict[str, Any] = {}

    def before(self, module: torch.nn.Module, _: Any) -> None:
        for name, read in self._reads.items():
            place: Any = module._parameters[name]
            if place.is_meta:
                self._places[name] = place
                module._parameters[name] = read().to(place.dtype)  # type: ignore[assignment]

    def after(self, module: torch.nn.Module, *_: Any) -> None:
        module._parameters.update(self._places)
        self._places.clear()

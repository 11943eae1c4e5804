"""Whether the sizes in config.json are those of the weights: found before anything of such a size is built.

The architecture is built without memory, on PyTorch's device "meta", and its shapes are compared with those in the
headers of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_model_loader.architecture import own_code
from hfopt_hf_model_loader.folder import Weights
from hfopt_hf_model_loader.tensors import Shape

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

REPEATED = re.compile("block|depth|expert|label|layer|stage")
"""In the names of what configs of transformers make lists of when they are read, one entry for each."""

SLACK = 8
"""How many times as much as there are weights a model may have: those that are tied, packed or split."""
FEW, SMALL = 1_000, 10_000_000
"""Tensors, and numbers in them, that a model may have beyond that."""

CORRECT = "fetch config.json again, or correct it"

RENAMED = {"gamma": "weight", "beta": "bias"}
"""Last parts of names in checkpoints of transformers' first years, and what they are now."""


def check_counts(attributes: Mapping[str, Any], weights: Weights, file: Path) -> None:
    """See that config.json has no number of layers, labels and the like that would fill the memory when it is read.

    :param file: config.json
    :raises PreconditionFailed: it has one that is larger than anything in the weights
    """
    largest = max((size for shape in weights.shapes.values() for size in shape), default=0)
    most = SLACK * (len(weights.shapes) + largest) + FEW
    for name, value in _integers(attributes):
        if value < 0 and name.endswith("heads"):
            raise PreconditionFailed(f"{file}: {name!r} is {_short(value)}", hint=CORRECT)
        if abs(value) > most and REPEATED.search(name):
            raise PreconditionFailed(
                f"{file}: {name!r} is {_short(value)}, and the weights are {len(weights.shapes)} tensors, "
                f"of at most {largest} in one dimension",
                hint=CORRECT,
            )


def _integers(attributes: Any) -> Iterator[tuple[str, int]]:
    """The integers of a config by name, those of its parts too."""
    waiting = [("", attributes)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, each) for each in value]
        elif isinstance(value, int):
            yield name, value


def check_shapes(
    model_class: type[PreTrainedModel], own: PretrainedConfig, weights: Weights, file: Path, *, exact: bool = True
) -> None:
    """See that the architecture that config.json describes has the shapes of the weights.

    :param file: config.json
    :param exact: False: only that it is not many times as large, which is so of quantized weights
    :raises PreconditionFailed: it can't be built, or has not; names the first tensor that differs
    """
    import torch

    cannot = f"transformers can't build {model_class.__name__} from {file}"
    try:
        with own_code(cannot), torch.device("meta"), _at_most(weights, file):
            model = model_class(own)
    except PreconditionFailed as error:
        if "meta tensor" in error.message:
            return  # it computes with values already: what is to be compared, opening it will
        raise
    if exact and (wrong := next(_differences(model, weights.shapes), None)) is not None:
        raise PreconditionFailed(f"{file} does not fit the weights: {wrong}", hint=CORRECT)


@contextmanager
def _at_most(weights: Weights, file: Path) -> Iterator[None]:
    """While a model is built: end that as soon as it has far more than its weights."""
    from torch.nn.modules.module import (
        register_module_buffer_registration_hook,
        register_module_module_registration_hook,
        register_module_parameter_registration_hook,
    )

    most_parts = SLACK * len(weights.shapes) + FEW
    most_elements = SLACK * weights.elements + SMALL
    parts = elements = 0

    def count_module(*_: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > SLACK * most_parts:
            raise PreconditionFailed(f"{file} describes far more layers than the {len(weights.shapes)} tensors are of")

    def count_tensor(_: nn.Module, name: str, tensor: Any) -> None:
        nonlocal elements
        elements += 0 if tensor is None else tensor.numel()
        if elements > most_elements:
            shape = list(tensor.shape)
            raise PreconditionFailed(
                f"{file} describes a model of far more than the {weights.elements} numbers that are its weights: "
                f"one {name} alone is {shape}"
            )

    hooks = [
        register_module_buffer_registration_hook(count_tensor),
        register_module_module_registration_hook(count_module),
        register_module_parameter_registration_hook(count_tensor),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _differences(model: PreTrainedModel, found: Mapping[str, Shape]) -> Iterator[str]:
    """Tensors of other shapes, and layers that either has not. Other names are told when it is loaded."""
    from torch import nn

    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    lists = {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    ignored = [re.compile(each) for each in model._keys_to_ignore_on_load_unexpected or ()]
    saved: dict[str, set[int]] = {name: set() for name in lists}
    for name, shape in found.items():
        names = list(_names(name, model.base_model_prefix))
        built = next((expected[each] for each in names if each in expected), None)
        if built is not None and built != shape:
            yield f"{name!r} is {list(shape)} in the weights, and would be {list(built)}"
        places = [place for each in names for place in _layers(each) if place[0] in lists]
        for layers, number in places:
            saved[layers].add(number)
            if number >= lists[layers] and built is None and not any(each.search(name) for each in ignored):
                yield f"{name!r} is in the weights, and it has {lists[layers]} of {layers}"
    for name in expected:
        for layers, number in _layers(name):
            if saved.get(layers) and number not in saved[layers]:
                yield f"it has {lists[layers]} of {layers}, and the weights have no {layers}.{number}"


def _names(name: str, prefix: str) -> Iterator[str]:
    """A tensor's names in the model: a checkpoint may have been saved with or without its head."""
    first, _, last = name.rpartition(".")
    if last in RENAMED:
        name = f"{first}.{RENAMED[last]}"
    yield from (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))


def _layers(name: str) -> Iterator[tuple[str, int]]:
    """The lists that a tensor's name leads through, and which entry of each it is in."""
    parts = name.split(".")
    for position, part in enumerate(parts):
        if part.isdecimal():
            yield ".".join(parts[:position]), int(part[:18])


def _short(value: int) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"a number of {len(text)} digits"

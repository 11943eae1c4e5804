"""Adapters of PEFT, which are merged into a model's weights when it is loaded: nothing is written."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PluginError, PreconditionFailed
from hfopt_hf_model_loader.architecture import own_code
from hfopt_hf_model_loader.folder import ADAPTER, Weights, has, inside, read_object, shapes_of

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
"""Of the names of an adapter's tensors, before the model's own."""


def read(place: Path) -> Weights:
    """An adapter's weights, by the header of their file.

    :raises PluginError: PEFT is not installed
    :raises PreconditionFailed: the folder holds no adapter, or a damaged one
    """
    if not has(place, ADAPTER):
        raise PreconditionFailed(f"{place} is not an adapter of PEFT: it has no {ADAPTER}")
    read_object(inside(place, ADAPTER))
    name = next((each for each in WEIGHTS if has(place, each)), None)
    if name is None:
        raise PreconditionFailed(f"{place} has no weights of an adapter: no {WEIGHTS[0]}")
    if find_spec("peft") is None:
        raise PluginError("adapter_path needs peft", hint="pip install 'hfopt-hf-model-loader[peft]'")
    file = inside(place, name)
    return Weights((file,), shapes_of(file))


def whole(place: Path) -> set[str]:
    """The names of a model's weights that an adapter has whole, as a new head."""
    return {name.removeprefix(PREFIX) for name in read(place).shapes}


def merge(model: Any, place: Path) -> nn.Module:
    """A model with an adapter's weights added to its own, in place.

    :raises PreconditionFailed: it does not fit the model, or is of a kind that can't be merged
    """
    from peft import PeftModel

    with own_code(f"peft can't load {place}"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(model, str(place), local_files_only=True)
    lost = next((str(each.message) for each in warned if "missing adapter keys" in str(each.message)), None)
    if lost is not None:
        raise PreconditionFailed(f"{place} does not fit the model: {lost.splitlines()[0]}")
    if not hasattr(adapted.base_model, "merge_and_unload"):
        kind = str(adapted.active_peft_config.peft_type.value)
        raise PreconditionFailed(f"{place} is an adapter of the kind {kind}, which can't be merged into weights")
    with own_code(f"peft can't merge {place}"):
        merged: nn.Module = adapted.base_model.merge_and_unload(safe_merge=False)
    return merged

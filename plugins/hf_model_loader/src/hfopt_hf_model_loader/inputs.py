"""Which class loads a model and what it takes, found from its config and the class's signature alone."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, TensorSpec
from hfopt.api.example import BATCH_AXIS
from hfopt_hf_model_loader.config import TASKS, HfConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEXT_AXES = (BATCH_AXIS, "sequence_length")


def class_name(config: HfConfig) -> str:
    """The transformers class that the config asks for."""
    return TASKS[config.task] if config.task is not None else str(config.model_class)


def model_class(config: HfConfig, folder: Path) -> type[PreTrainedModel]:
    """The architecture that will be built: an auto class resolved by the model's own config.

    :raises PreconditionFailed: transformers has no such class, or it can't build this type of model
    """
    import transformers

    name = class_name(config)
    found = getattr(transformers, name, None)
    if found is None:
        raise PreconditionFailed(f"transformers {transformers.__version__} has no class {name!r}")
    mapping = getattr(found, "_model_mapping", None)
    if mapping is None:
        return found
    own = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if type(own) not in mapping:
        raise PreconditionFailed(f"{config.task}: transformers has no such head for model type {own.model_type!r}")
    return mapping[type(own)]


def check_head(model_class: type[PreTrainedModel], attributes: Mapping[str, Any], task: str | None) -> None:
    """The checkpoint must have been saved with the head that the task needs; else the head would be random.

    :raises PreconditionFailed: it was saved with another
    """
    saved = attributes.get("architectures") or []
    bare = model_class.__name__.endswith("Model")
    if saved and not bare and model_class.__name__ not in saved:
        raise PreconditionFailed(
            f"the model was saved as {', '.join(saved)}, which has no head for {task or model_class.__name__}",
            hint="choose the task that it was trained for",
        )


def describe(model_class: type[PreTrainedModel], attributes: Mapping[str, Any], folder: Path) -> tuple[TensorSpec, ...]:
    """The inputs of a text encoder, in the order of its signature; empty for any other kind of model."""
    taken = inspect.signature(model_class.forward).parameters
    if "input_ids" not in taken or "vocab_size" not in attributes:
        return ()
    ranges = {"input_ids": attributes["vocab_size"], "attention_mask": 2}
    segments = attributes.get("type_vocab_size", 0)
    if segments > 1 and "token_type_ids" in _tokenizer_inputs(folder):
        ranges["token_type_ids"] = segments
    names = [name for name in taken if name in ranges]
    return tuple(TensorSpec(name=name, dtype="int64", axes=TEXT_AXES, high=ranges[name]) for name in names)


def _tokenizer_inputs(folder: Path) -> list[str]:
    """What the tokenizer yields; without its word for it, all three."""
    with suppress(OSError, ValueError):
        written = json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("model_input_names")
        if written:
            return list(written)
    return ["input_ids", "token_type_ids", "attention_mask"]

"""Which class loads a model and what it takes, found from its config and the class's signature alone."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, TensorSpec
from hfopt.api.example import BATCH_AXIS
from hfopt_hf_model_loader import own_classes
from hfopt_hf_model_loader.folder import has, inside, read_object
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TEXT_AXES = (BATCH_AXIS, "sequence_length")


def read(folder: Path, *, trusted: bool = False) -> PretrainedConfig:
    """The model's own config, as transformers understands it.

    :param trusted: whether the folder's own code may run
    :raises PreconditionFailed: transformers does not, with its reason
    """
    from transformers import AutoConfig

    with own_code(f"transformers can't read {folder / 'config.json'}"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)


def attributes(own: PretrainedConfig) -> dict[str, Any]:
    """What transformers makes of config.json: with its defaults, and sizes under the names that all models share."""
    found: dict[str, Any] = json.loads(own.to_json_string(use_diff=False))
    shared = {name: getattr(own, name, None) for name in own.attribute_map}
    return found | {name: value for name, value in shared.items() if isinstance(value, int | float | str)}


def class_name(config: HfConfig) -> str:
    """The transformers class that the config asks for."""
    return TASKS[config.task] if config.task is not None else str(config.model_class)


def model_class(config: HfConfig, own: PretrainedConfig, folder: Path) -> type[PreTrainedModel]:
    """The architecture that will be built: an auto class resolved by the model's own config.

    :raises PreconditionFailed: transformers has no such class, or it can't build this type of model
    """
    import transformers

    name = class_name(config)
    if config.arguments.trust_remote_code:
        with own_code(f"the code in {folder} fails"):
            brought = own_classes.class_of(name, vars(own), folder)
        if brought is not None:
            return brought
    found: type[PreTrainedModel] | None = getattr(transformers, name, None)
    if found is None:
        raise PreconditionFailed(f"transformers {transformers.__version__} has no class {name!r}")
    mapping = getattr(found, "_model_mapping", None)
    if mapping is None:
        return found
    if type(own) not in mapping:
        raise PreconditionFailed(f"transformers has no {own.model_type!r} model for {config.task or name}")
    built = mapping[type(own)]
    choices: tuple[type[PreTrainedModel], ...] = built if isinstance(built, tuple) else (built,)
    return next((each for each in choices if each.__name__ in (own.architectures or [])), choices[0])


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


def inputs(model_class: type[PreTrainedModel], own: PretrainedConfig, folder: Path) -> tuple[TensorSpec, ...]:
    """The inputs of a text model, in the order of its signature.

    :raises PreconditionFailed: it is a model of something else
    """
    taken = inspect.signature(model_class.forward).parameters
    vocabulary = getattr(own, "vocab_size", None)
    if "input_ids" not in taken or vocabulary is None:
        raise PreconditionFailed(f"{model_class.__name__} does not take token ids; this version does models of text")
    ranges = {"input_ids": vocabulary, "attention_mask": 2}
    segments = getattr(own, "type_vocab_size", None)
    if isinstance(segments, int) and segments > 1 and "token_type_ids" in _tokenizer_inputs(folder):
        ranges["token_type_ids"] = segments
    names = [name for name in taken if name in ranges]
    return tuple(TensorSpec(name=name, dtype="int64", axes=TEXT_AXES, high=ranges[name]) for name in names)


def _tokenizer_inputs(folder: Path) -> list[str]:
    """What the tokenizer yields; where it does not say, whatever the model takes."""
    name = "tokenizer_config.json"
    written = read_object(inside(folder, name)).get("model_input_names") if has(folder, name) else None
    return written if isinstance(written, list) and written else ["input_ids", "token_type_ids", "attention_mask"]


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Where a model's own code runs: its config's, its constructor's, its forward's.

    :param what: does not work if it fails: ``transformers can't read FILE``
    :raises PreconditionFailed: the code raises anything
    """
    try:
        yield
    except PreconditionFailed:
        raise
    except (Exception, SystemExit) as error:  # code of hundreds of authors computes with what files say
        raise PreconditionFailed(f"{what}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """What a library says of a failure, without its advice."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    text = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
    if isinstance(error, OSError | ValueError | RuntimeError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")

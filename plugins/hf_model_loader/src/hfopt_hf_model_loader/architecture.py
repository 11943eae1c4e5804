"""Which class loads a model, found from its config alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_model_loader import own_classes
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


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


def class_names(config: HfConfig) -> tuple[str, ...]:
    """The transformers classes that the config asks for, to be tried in turn."""
    return TASKS[config.task] if config.task is not None else (str(config.model_class),)


def model_class(config: HfConfig, own: PretrainedConfig, folder: Path) -> type[PreTrainedModel]:
    """The architecture that will be built: an auto class resolved by the model's own config.

    :raises PreconditionFailed: transformers has no such class, or it can't build this type of model
    """
    import transformers

    names = class_names(config)
    if config.arguments.trust_remote_code:
        with own_code(f"the code in {folder} fails"):
            brought = next(filter(None, (own_classes.class_of(name, vars(own), folder) for name in names)), None)
        if brought is not None:
            return brought
    classes = [getattr(transformers, name) for name in names if hasattr(transformers, name)]
    if not classes:
        raise PreconditionFailed(f"transformers {transformers.__version__} has no class {names[0]!r}")
    built: list[type[PreTrainedModel]] = []
    for found in classes:
        mapping = getattr(found, "_model_mapping", None)
        if mapping is None:
            built.append(found)
        elif type(own) in mapping:
            choice = mapping[type(own)]
            built += choice if isinstance(choice, tuple) else [choice]
    if not built:
        raise PreconditionFailed(f"transformers has no {own.model_type!r} model for {config.task or names[0]}")
    return next((each for each in built if each.__name__ in (own.architectures or [])), built[0])


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

"""MLflow folders: a Hugging Face model in parts, of which one folder is made as save_pretrained would write it.

What the parts are says MLmodel, which is YAML: nothing of MLflow is imported. Into an MLflow folder nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfopt import FetchContext, PreconditionFailed
from hfopt_hf_model_loader.folder import CONFIG, SINGLE, WEIGHTS, inside
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.tasks import TASKS

DESCRIPTION = "MLmodel"
AZURE, STOCK = ("hftransformersv2", "hftransformers"), "transformers"
"""Flavors: those of azureml-evaluate-mlflow, the later first, and MLflow's own."""
TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "vocab.txt")
LIMIT = 1_000_000
"""Bytes of an MLmodel: signatures and examples make it some kilobytes long."""


@dataclass(frozen=True)
class Logged:
    """What an MLmodel says.

    :param parts: folders that hold the model's files; where two have a file of one name, the first has it
    :param model: that of the weights; with config.json, where no other part has it
    """

    parts: tuple[Path, ...]
    model: Path
    task: str | None
    model_class: str | None


def read(place: Path) -> Logged:
    """What an MLflow folder's MLmodel says of a model of Hugging Face.

    :raises PreconditionFailed: it is missing, is not YAML, or is of something else
    """
    flavors = _flavors(place)
    name = next((each for each in (*AZURE, STOCK) if isinstance(flavors.get(each), dict)), None)
    if name is None:
        known = ", ".join(map(str, flavors)) or "none"
        raise PreconditionFailed(
            f"{place / DESCRIPTION} is not of a model of Hugging Face: its flavors are {known}",
            hint=f"those that are read are {', '.join(AZURE)} and {STOCK}",
        )
    flavor: Mapping[str, Any] = flavors[name]
    if name in AZURE:
        data = _below(place, _text(flavor, "model_data") or "data")
        parts = (data / "tokenizer", data / "config", data / "model")
        return Logged(parts, parts[-1], _text(flavor, "task_type"), _text(flavor, "hf_pretrained_class"))
    source, adapter = _text(flavor, "source_model_name"), _text(flavor, "peft_adaptor")
    if adapter is not None:
        raise PreconditionFailed(
            f"{place} holds an adapter, and its model is {source}",
            hint=f"set model_path to {source} without model_file_format, and adapter_path to {place / adapter}",
        )
    model = _below(place, _text(flavor, "model_binary") or "pipeline")
    if source is not None and not model.exists():
        raise PreconditionFailed(
            f"{place} was logged without weights, which are those of {source}",
            hint=f"set model_path to {source}, without model_file_format",
        )
    listed = flavor.get("components")
    names = [str(each) for each in listed] if isinstance(listed, list) else []
    parts = (*(_below(place, f"components/{each}") for each in names), model)
    return Logged(parts, model, _text(flavor, "task"), _text(flavor, "pipeline_model_type"))


def gather(place: Path, written: HfConfig, context: FetchContext) -> tuple[Path, HfConfig]:
    """Make one folder of the parts of an MLflow folder, as hard links; across file systems as copies.

    :param written: what the user says of the model; where that is neither its task nor its class, MLmodel does
    :return: the folder, and what is then known of the model
    :raises PreconditionFailed: a part is missing, or leads out of the folder
    """
    from hfopt_hf_hub.hub import link

    logged = read(place)
    found = dict(_files(logged, place))
    target = context.folder / "model"
    for number, part in enumerate(dict.fromkeys(found.values())):
        context.progress("gather", number, len(logged.parts))
        link(part, [name for name, where in found.items() if where == part], target)
    return target, _known(logged, written, place)


def data_defaults(place: Path, written: HfConfig) -> dict[str, Any]:
    """The part of an MLflow folder that has the tokenizer, and the model's task; nothing if there is no such thing."""
    with suppress(PreconditionFailed):
        logged = read(place)
        having = (part for part in logged.parts if any((part / name).is_file() for name in TOKENIZERS))
        task = _known(logged, written, place).task
        return {"model_name": str(next(having, logged.model)), "task": task}
    return {}


def _files(logged: Logged, place: Path) -> Iterator[tuple[str, Path]]:
    """The name of each file, and the part that has it.

    :raises PreconditionFailed: there are no weights, or no config.json
    """
    names: dict[str, Path] = {}
    for part in logged.parts:
        for file in sorted(part.iterdir()) if part.is_dir() else ():
            if not file.is_dir() and file.name not in names:
                inside(place, str(file.relative_to(place)))
                names[file.name] = part
    looked = f"{place} is not whole: there is no"
    if not any(names.get(name) == logged.model for name in WEIGHTS):
        raise PreconditionFailed(f"{looked} {SINGLE} in {logged.model.relative_to(place)}")
    if CONFIG not in names:
        *others, last = (str(part.relative_to(place)) for part in reversed(logged.parts))
        where = f"{', '.join(others)} or {last}" if others else last
        raise PreconditionFailed(f"{looked} {CONFIG} in {where}")
    yield from names.items()


def _known(logged: Logged, written: HfConfig, place: Path) -> HfConfig:
    if written.task is not None or written.model_class is not None:
        return written
    if logged.task in TASKS:
        return written.model_copy(update={"task": logged.task})
    if logged.model_class is None:
        raise PreconditionFailed(
            f"{place / DESCRIPTION} says neither the model's task nor its class", hint="write hf_config.task"
        )
    return written.model_copy(update={"model_class": logged.model_class})


def _flavors(place: Path) -> Mapping[str, Any]:
    import yaml

    file = place / DESCRIPTION
    if not file.exists():
        raise PreconditionFailed(f"{place} is not an MLflow folder: it has no {DESCRIPTION}")
    if (size := inside(place, DESCRIPTION).stat().st_size) > LIMIT:
        raise PreconditionFailed(f"{file} has {size} bytes; at most {LIMIT} are read")
    try:
        described = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PreconditionFailed(f"{file} is not YAML: {str(error).partition(chr(10))[0]}") from error
    flavors = described.get("flavors") if isinstance(described, dict) else None
    return flavors if isinstance(flavors, dict) else {}


def _text(flavor: Mapping[str, Any], key: str) -> str | None:
    value = flavor.get(key)
    return value if isinstance(value, str) and value else None


def _below(place: Path, name: str) -> Path:
    """A folder that MLmodel names, which is one of its own folder."""
    if name.startswith("/") or ".." in Path(name).parts:
        raise PreconditionFailed(f"{place / DESCRIPTION} names {name!r}, which lies outside of its folder")
    return place / name

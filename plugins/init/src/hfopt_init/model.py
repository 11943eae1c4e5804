"""What a model is: found from its files' names and its config.json. No framework, and no weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hfopt import PreconditionFailed, UsageError
from hfopt.api.config import looks_like_hub_name
from hfopt.api.files import path_of, read_json
from hfopt.api.text import did_you_mean

TASKS: Mapping[str, str] = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "Model": "feature-extraction",
}
"""The task of a model, by how the name of its architecture ends."""
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
"""Names of files that hold a model's weights."""
CLASSIFIES = "text-classification"


@dataclass(frozen=True)
class Model:
    """A model that a config can name.

    :param name: as the user wrote it
    :param folder: where it is; None: on the hub
    :param onnx: the file, if it is an ONNX model
    :param task: null where config.json does not tell
    :param labels: the names of its classes in order; empty where it has none, or they have no names of their own
    :param classes: how many there are
    :param attributes: config.json
    :param tokenizer: whether there is one beside it; on the hub there is
    """

    name: str
    folder: Path | None
    onnx: Path | None = None
    task: str | None = None
    labels: tuple[str, ...] = ()
    classes: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: bool = True


def look_at_model(name: str) -> Model:
    """Find out what a model is.

    :raises UsageError: there is none, or none that a config could name
    """
    place = path_of(name)
    if place.is_file() and place.suffix == ".onnx":
        return _described(name, place.parent, onnx=place)
    if place.is_file():
        raise UsageError(f"{name} is a file, and no ONNX model", hint="name the folder of the model")
    if place.is_dir():
        return _in_folder(name, place)
    if not looks_like_hub_name(name):
        near = did_you_mean(place.name, [each.name for each in place.parent.glob("*")])
        raise UsageError(f"there is no folder {name}", hint=near)
    return _on_hub(name)


def _in_folder(name: str, folder: Path) -> Model:
    files = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*.onnx"))
    weights = [found for pattern in WEIGHTS for found in folder.glob(pattern)]
    if (folder / "config.json").is_file() and weights:
        return _described(name, folder)
    if len(files) == 1:
        return _described(name, folder, onnx=folder / files[0])
    if files:
        shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
        raise UsageError(f"{name} holds {len(files)} ONNX files: {shown}", hint="name one of them")
    raise UsageError(f"{name} is no model: it has neither config.json with weights nor an .onnx file")


def _described(name: str, folder: Path, onnx: Path | None = None) -> Model:
    """What config.json and the other files in a folder say."""
    file = folder / "config.json"
    attributes = _read(file) if file.is_file() else {}
    tokenizer = any((folder / each).is_file() for each in ("tokenizer_config.json", "tokenizer.json", "vocab.txt"))
    return _from_attributes(Model(name, folder, onnx, tokenizer=tokenizer), attributes)


def _read(file: Path) -> dict[str, Any]:
    try:
        attributes = read_json(file)
    except PreconditionFailed as error:
        raise UsageError(error.message, hint=error.hint) from error
    if not isinstance(attributes, dict):
        raise UsageError(f"{file} is not a model's config: it holds no object")
    return attributes


def _from_attributes(model: Model, attributes: Mapping[str, Any]) -> Model:
    architectures = attributes.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    task = next((task for ending, task in TASKS.items() if architecture.endswith(ending)), None)
    named = attributes.get("id2label")
    names = {str(key): str(value) for key, value in named.items()} if isinstance(named, dict) else {}
    classes = len(names) or 2  # which is transformers' default
    labels = tuple(names.get(str(number), "") for number in range(classes))
    plain = all(label in ("", f"LABEL_{number}") for number, label in enumerate(labels))
    if task == CLASSIFIES:
        model = replace(model, classes=classes, labels=() if plain else labels)
    return replace(model, task=task, attributes=attributes)


def _on_hub(name: str) -> Model:
    """A model on the hub by its config.json, from the hub's cache or, unless that is forbidden, from the hub."""
    try:
        from huggingface_hub.constants import HF_HUB_OFFLINE

        from hfopt_hf_hub import hub
    except ModuleNotFoundError as error:
        hint = "name a folder, or: pip install ./plugins/hf_hub"
        raise UsageError(f"there is no folder {name}, and nothing to ask the hub with", hint=hint) from error
    repository, offline = hub.Repository("model", name), HF_HUB_OFFLINE
    try:
        commit = hub.commit_of(repository, "main", offline=offline)
        folder = hub.download(repository, commit, ["config.json"], offline=offline)
        hub.remember(folder, "main")
    except PreconditionFailed as error:
        raise UsageError(f"there is no folder {name}, and on the hub: {error.message}", hint=error.hint) from error
    file = folder / "config.json"
    if not file.is_file():
        raise UsageError(f"{name} on the hub has no config.json: what it is can't be told")
    return _from_attributes(Model(name, None), _read(file))

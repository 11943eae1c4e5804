"""What lies in a model's folder, looked at without loading it."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.files import file_inside, read_json
from hfopt_hf_model_loader.saved import saved_shapes
from hfopt_hf_model_loader.tensors import Shape, shapes

CONFIG = "config.json"
SINGLE = "model.safetensors"
WEIGHTS = (SINGLE, f"{SINGLE}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What holds a model's weights, or names the files that do; the first that is there counts, as for transformers."""
ADAPTER = "adapter_config.json"
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "bpe.codes",
    "dict.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
)
"""Files that travel with a model: they are not its weights, and it can't be used without them."""
OBJECTS = frozenset(
    {
        *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    }
)
"""Those that are read here, to see that they can be read later. The others are as large as a vocabulary."""
VOCABULARY_LIMIT = 200_000_000
"""Bytes: of tokenizers that are known to us the largest has a fifth."""


def inside(folder: Path, name: str) -> Path:
    """A file of a model's folder: not of another one, not a named pipe.

    :raises PreconditionFailed: it can't be read, or is something else
    """
    path = folder / name
    file_inside(path, folder)
    if not os.access(path, os.R_OK):
        raise PreconditionFailed(f"{path} can't be read: Permission denied")
    return path


def has(folder: Path, name: str) -> bool:
    """Whether there is something of that name, whatever it is."""
    return os.path.lexists(folder / name)


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    :raises PreconditionFailed: it does not, or is not JSON
    """
    value = read_json(file)
    if not isinstance(value, dict):
        raise PreconditionFailed(f"{file} is not a JSON object")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """config.json.

    :raises PreconditionFailed: it is missing or not JSON
    """
    if has(folder, ADAPTER):
        _refuse_adapter(folder)
    if not has(folder, CONFIG):
        raise PreconditionFailed(f"{folder} is not a Hugging Face model: it has no {CONFIG}")
    file = inside(folder, CONFIG)
    attributes = read_object(file)
    names = attributes.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PreconditionFailed(f"{file}: architectures must be a list of names")
    for key in ("attn_implementation", "_attn_implementation"):
        if "/" in str(attributes.get(key)):  # transformers would fetch a repository of that name, and run its code
            raise PreconditionFailed(f"{file}: {key} is code from the hub, which is not run", hint=f"remove {key}")
    return attributes


def _refuse_adapter(folder: Path) -> None:
    """An adapter is no model; and beside a model's own files transformers would load the model that it names."""
    base = read_object(inside(folder, ADAPTER)).get("base_model_name_or_path")
    if has(folder, CONFIG):
        hint = f"move {ADAPTER} and its weights to a folder of their own, and name that in adapter_path"
        raise PreconditionFailed(f"{folder} is a model with an adapter beside it", hint=hint)
    named = f"its base, {base}," if isinstance(base, str) and base else "its base"
    raise PreconditionFailed(
        f"{folder} is an adapter, not a model",
        hint=f"name {named} in model_path and this folder in adapter_path, or merge the two and save the result",
    )


@dataclass(frozen=True)
class Weights:
    """The weights of a model, by the headers of their files.

    :param files: an index stands before its shards
    :param shapes: of every tensor
    """

    files: tuple[Path, ...]
    shapes: Mapping[str, Shape]

    @property
    def elements(self) -> int:
        """How many numbers there are."""
        return sum(map(math.prod, self.shapes.values()))


def weights(folder: Path) -> Weights:
    """The files that hold a model's weights, whole.

    :raises PreconditionFailed: there are none, or one is missing or damaged
    """
    found = next((name for name in WEIGHTS if has(folder, name)), None)
    if found is None:
        raise PreconditionFailed(f"{folder} has no weights: no {SINGLE}")
    file = inside(folder, found)
    return _sharded(file) if file.suffix == ".json" else Weights((file,), _some(file, shapes_of(file)))


def shapes_of(file: Path) -> dict[str, Shape]:
    """The shape of every tensor of a file of weights, safetensors or torch.save's."""
    return shapes(file) if file.suffix == ".safetensors" else saved_shapes(file)


def _sharded(index: Path) -> Weights:
    """What an index names: files beside it, with the tensors that it says."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise PreconditionFailed(f"{index} is not an index of weights")
    parts: dict[str, list[str]] = defaultdict(list)
    for tensor, name in places.items():
        parts[name].append(tensor)
    files, found = [], dict[str, Shape]()
    for name, expected in sorted(parts.items()):
        if Path(name).name != name or name in ("", ".."):
            raise PreconditionFailed(f"{index} names {_cut(name)!r}, which is not a file of its folder")
        if not has(index.parent, name):
            raise PreconditionFailed(f"{index} names {_cut(name)!r}, which is missing")
        file = inside(index.parent, name)
        held = shapes_of(file)
        if lost := [tensor for tensor in expected if tensor not in held]:
            raise PreconditionFailed(
                f"{index} has {_cut(lost[0])!r} in {name}, which lacks it", hint="fetch both again"
            )
        files.append(file)
        found |= held
    return Weights((index, *files), _some(index, found))


def _some(file: Path, found: Mapping[str, Shape]) -> Mapping[str, Shape]:
    if not found:
        raise PreconditionFailed(f"{file} has no tensors")
    return found


def companions(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that must travel with the model.

    :raises PreconditionFailed: one is a link to elsewhere or no regular file, or is a config and not a JSON object
    """
    found = tuple(inside(folder, name) for name in COMPANIONS if has(folder, name))
    for file in found:
        if file.name in OBJECTS:
            read_object(file)
        elif (size := file.stat().st_size) > VOCABULARY_LIMIT:
            raise PreconditionFailed(f"{file} has {size} bytes; a vocabulary has at most {VOCABULARY_LIMIT}")
    return found


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"...{text[-200:]}"

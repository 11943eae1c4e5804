"""What lies in a model's folder, looked at without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hfopt import PreconditionFailed

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
HEADER_LIMIT = 100_000_000
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
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
    "chat_template.jinja",
)
"""Files that travel with a model: they are not its weights, and it can't be used without them."""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json.

    :raises PreconditionFailed: it is missing or not JSON
    """
    file = folder / "config.json"
    try:
        attributes = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise PreconditionFailed(f"{folder} is not a Hugging Face model: it has no config.json") from error
    except ValueError as error:
        raise PreconditionFailed(f"{file} is not JSON: {error}") from error
    if not isinstance(attributes, dict):
        raise PreconditionFailed(f"{file} is not a JSON object")
    return attributes


def weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files, whole; an index stands before its shards.

    :raises PreconditionFailed: there are none, one is missing or damaged, or there are only pickles
    """
    if (folder / SINGLE).is_file():
        files = [folder / SINGLE]
        shards = files
    elif (folder / INDEX).is_file():
        shards = _shards(folder / INDEX)
        files = [folder / INDEX, *shards]
    elif any((folder / name).is_file() for name in PICKLES):
        raise PreconditionFailed(
            f"{folder} has its weights as pickles, which can run any code when they are loaded",
            hint="save the model again with safetensors: model.save_pretrained(folder)",
        )
    else:
        raise PreconditionFailed(f"{folder} has no weights: no {SINGLE}")
    for shard in shards:
        check_safetensors(shard)
    return tuple(files)


def _shards(index: Path) -> list[Path]:
    """The files that an index names, which lie beside it."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PreconditionFailed(f"{index} is not an index of weights") from error
    if outside:
        raise PreconditionFailed(f"{index} names {outside[0]!r}, which is not a file of its folder")
    return [index.parent / name for name in names]


def check_safetensors(file: Path) -> None:
    """Compare a file's length with what its header promises.

    Source: the format's description, https://huggingface.co/docs/safetensors: 8 bytes of header length (little-endian),
    a JSON header of at most 100 MB with every tensor's data_offsets, then the data.

    :raises PreconditionFailed: it is missing, truncated, or something else
    """
    try:
        with open(file, "rb") as stream:
            size = file.stat().st_size
            length = int.from_bytes(stream.read(8), "little")
            if 8 + length > size or length > HEADER_LIMIT:
                raise PreconditionFailed(f"{file} is truncated, or not a safetensors file")
            header = json.loads(stream.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
    except FileNotFoundError as error:
        raise PreconditionFailed(f"{file} is missing, though the index names it") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PreconditionFailed(f"{file} is not a safetensors file") from error
    if size != expected:
        raise PreconditionFailed(
            f"{file} is damaged: it has {size} bytes, and its header promises {expected}", hint="fetch it again"
        )


def companions(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that must travel with the model."""
    return tuple(folder / name for name in COMPANIONS if (folder / name).is_file())

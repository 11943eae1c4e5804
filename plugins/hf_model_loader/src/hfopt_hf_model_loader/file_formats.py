"""``model_file_format``: a model, or its weights alone, in one file; a model beside it says what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from hfopt import PreconditionFailed
from hfopt_hf_model_loader.architecture import own_code
from hfopt_hf_model_loader.config import ENTIRE_MODEL, STATE_DICT, TORCH_SCRIPT
from hfopt_hf_model_loader.folder import Weights, inside, shapes_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def look_at(file: Path, kind: str) -> Weights:
    """What a file holds, without loading it; of a whole model no shapes are known.

    :raises PreconditionFailed: it is damaged, or of another kind
    """
    inside(file.parent, file.name)
    if kind == STATE_DICT:
        return Weights((file,), shapes_of(file))
    try:
        with ZipFile(file) as members:
            script = any(name.partition("/")[2] == "constants.pkl" for name in members.namelist())
    except (BadZipFile, OSError):
        script = False
    if script != (kind == TORCH_SCRIPT):
        other = ENTIRE_MODEL if kind == TORCH_SCRIPT else TORCH_SCRIPT
        hint = f"set model_file_format to {other}, if it is that" if script else None
        raise PreconditionFailed(f"{file} is damaged, or is not {kind}", hint=hint)
    return Weights((file,), {})


def tensors(file: Path) -> dict[str, Tensor]:
    """A state dict, mapped into memory."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        found: dict[str, Tensor] = load_file(file)
        return found
    from hfopt_hf_model_loader.saved import read_tensors

    return read_tensors(file)


def open_whole(file: Path, kind: str, device: str) -> nn.Module:
    """A whole model: TorchScript, or a pickle, which the config has allowed.

    :raises PreconditionFailed: PyTorch can't load it, or it is no module
    """
    import torch

    with own_code(f"PyTorch can't load {file}"):
        if kind == TORCH_SCRIPT:
            model = torch.jit.load(file, map_location=device)
        else:
            model = torch.load(file, map_location=device, weights_only=False)
    if not isinstance(model, torch.nn.Module):
        raise PreconditionFailed(f"{file} holds a {type(model).__name__}, and no torch.nn.Module")
    return model


def naming(model: nn.Module, outputs: Sequence[str]) -> nn.Module:
    """A module whose outputs have names.

    :param outputs: where it returns no names itself
    """
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Tensor) -> dict[str, Any]:
            found = self.model(**inputs)
            if hasattr(found, "items"):
                return dict(found.items())
            values = found if isinstance(found, tuple | list) else (found,)
            names = [*outputs[: len(values)], *(f"output_{number}" for number in range(len(outputs), len(values)))]
            return dict(zip(names, values, strict=True))

    return Named()

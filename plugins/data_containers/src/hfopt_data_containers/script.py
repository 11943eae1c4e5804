"""Functions of a user's script that yield data or judge models. Called in workers only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from hfopt import Config, InputPath, PreconditionFailed
from hfopt.api.scripts import load_function
from hfopt.api.text import did_you_mean


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("must be the name of a function")
    return name


Function = Annotated[str, AfterValidator(_identifier)]


class ScriptOptions(Config):
    """Where functions are."""

    user_script: InputPath | None = Field(
        None, description="A Python file with the functions that are named; it runs in workers only."
    )
    script_dir: InputPath | None = Field(None, description="A folder from which user_script may import.")

    @property
    def script(self) -> Script:
        """The script that has the functions."""
        folder = None if self.script_dir is None else Path(self.script_dir)
        return Script(Path(str(self.user_script)), folder)


@dataclass(frozen=True)
class LoadedModel:
    """What the functions of a user's script get: an open model.

    :param framework: of `hfopt.api.scripts.FRAMEWORKS`
    :param io_config: ``input_names`` and ``output_names``
    """

    live: Any
    framework: str
    io_config: Mapping[str, Any]

    def load_model(self, *_: Any) -> Any:
        """The ``torch.nn.Module`` or ``onnxruntime.InferenceSession``."""
        return self.live

    def prepare_session(self, *_: Any, **__: Any) -> Any:
        """As `load_model`: it is open where the run says, and with its settings."""
        return self.live

    def get_hf_model_config(self) -> Any:
        """The config of a model of transformers."""
        if not hasattr(self.live, "config"):
            raise PreconditionFailed(f"this model is of {self.framework}, and has no config of Hugging Face's")
        return self.live.config


NAMES = dict.fromkeys(("LoadedModel", "OliveModelHandler", "PyTorchModelHandler", "ONNXModelHandler"), LoadedModel)
"""What scripts find without importing it, for their annotations; the others are Olive's names for it."""


@dataclass(frozen=True)
class Script:
    """A user's script.

    :param folder: from which it may import
    """

    file: Path
    folder: Path | None = None

    def function(self, name: str) -> Callable[..., Any]:
        """One of its functions.

        :raises PreconditionFailed: there is none of that name, or the script can't be loaded
        """
        return load_function(self.file, name, folder=self.folder, names=NAMES)  # type: ignore[no-any-return]


def check_options(functions: Iterable[Callable[..., Any]], options: Iterable[str], script: Path) -> None:
    """That every option is one of some function's.

    :raises PreconditionFailed: no function takes one
    """
    parameters = [each for function in functions for each in inspect.signature(function).parameters.values()]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    known = [each.name for each in parameters]
    for name in options:
        if name not in known:
            fact = f"no function of {script} takes {name!r}, an option in params_config"
            raise PreconditionFailed(fact, hint=did_you_mean(name, known))


def accepted(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(options)
    return {name: value for name, value in options.items() if name in parameters}

"""The options of ``PyTorchModel`` that name functions of a user's script, and the io_config."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from hfopt import Config, InputPath
from hfopt.api.config import OptionError, PlainName
from hfopt_hf_model_loader.io_config import IoConfig


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("must be the name of a function")
    return name


Function = Annotated[str, AfterValidator(_identifier)]


def needs_script(name: str) -> str:
    """What is wrong with a function's name where no script is named."""
    return f"{name} is a function, and there is no model_script that could have it"


class ComponentConfig(Config):
    """One of ``hf_config.components``."""

    name: PlainName = Field(description="What it is called: its file, among the results.")
    io_config: IoConfig | Function = Field(description="What it takes and returns, or a function that says so.")
    component_func: Function | None = Field(
        None, description="A function that gets the model and returns the component's module; null: the whole model."
    )
    dummy_inputs_func: Function | None = Field(
        None, description="A function that gets the component and returns what to call it with."
    )

    def functions(self) -> dict[str, str]:
        """The functions that it names, by option."""
        named = {option: getattr(self, option) for option in ("io_config", "component_func", "dummy_inputs_func")}
        return {option: name for option, name in named.items() if isinstance(name, str)}


class ScriptOptions(Config):
    """What a script adds to a model's options."""

    model_script: InputPath | None = Field(
        None, description="A Python file whose functions the other options name; it runs in workers only."
    )
    script_dir: InputPath | None = Field(None, description="A folder from which the script may import.")
    model_loader: Function | None = Field(
        None, description="A function that gets model_path and returns the torch.nn.Module: hf_config may be missing."
    )
    io_config: IoConfig | Function | None = Field(
        None, description="What the model takes and returns, or a function that says so; null: found by hfopt."
    )
    dummy_inputs_func: Function | None = Field(
        None, description="A function that returns what to call the model with; null: as io_config says."
    )
    component_func: Function | None = Field(
        None, description="A function that gets the model and returns the part of it to take instead."
    )

    @model_validator(mode="after")
    def _in_a_script(self) -> ScriptOptions:
        for option in ("model_loader", "io_config", "dummy_inputs_func", "component_func"):
            if isinstance(name := getattr(self, option), str) and self.model_script is None:
                raise OptionError(option, needs_script(name))
        if self.model_loader is not None and self.io_config is None and self.dummy_inputs_func is None:
            raise OptionError("model_loader", "needs io_config or dummy_inputs_func, which say what its model takes")
        return self

    @property
    def scripted(self) -> bool:
        """Whether anything else than the model's own files says what it takes."""
        options = (self.io_config, self.dummy_inputs_func, self.component_func, self.model_loader)
        return any(option is not None for option in options)

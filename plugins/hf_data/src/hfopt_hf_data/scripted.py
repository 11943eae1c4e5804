"""Components of ``HuggingfaceContainer`` that are functions of the user's, and what these are called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from hfopt import Config
from hfopt_data_containers.container import DATALOADER, LOAD, POST, PRE
from hfopt_data_containers.script import Script, accepted, check_options
from hfopt_hf_data.loading import LoadDataset
from hfopt_hf_data.preprocessing import Dataloader, PreProcess

OFFERED: dict[str, type[Config]] = {LOAD: LoadDataset, PRE: PreProcess, DATALOADER: Dataloader, POST: Config}
"""By component, those options of the container that its function is told, if it takes them."""


class ComponentFunction(Config):
    """A function of ``user_script``, and what it is told."""

    name: str = Field(description="The name by which it is registered, or its own.")
    params: dict[str, Any] = Field({}, description="Its options.")


class Scripted(Config):
    """Components that are functions, once spellings are normalized."""

    functions: dict[str, ComponentFunction] = Field(
        {}, description="As components: those whose type is a function of user_script."
    )
    options: dict[str, Any] = Field({}, description="Other options, which go to every such function that takes them.")

    @model_validator(mode="after")
    def _of_functions(self) -> Scripted:
        if self.options and not self.functions:
            raise ValueError("options are of functions of user_script, and no component is one")
        return self


class Functions:
    """The functions of a container's config.

    :param config: of the container
    """

    def __init__(self, config: Any) -> None:
        self._config, self._named = config, config.functions
        folder = None if config.script_dir is None else Path(config.script_dir)
        self.script = Script(Path(str(config.user_script)), folder)

    def __contains__(self, component: str) -> bool:
        return component in self._named

    def called(self, component: str) -> str:
        """A component's function, for messages."""
        return f"{self.script.file}: {self._named[component].name}"

    def check(self) -> None:
        """That every option that stands beside the container's own is one of some function's."""
        functions = [self._function(component) for component in self._named]
        check_options(functions, self._config.options, self.script.file)

    def call(self, component: str, *arguments: Any) -> Any:
        """Call a component's function with its own options, and those of the container's that it takes."""
        function = self._function(component)
        offered = {**self._container_options(function, OFFERED[component]), **self._config.options}
        return function(*arguments, **{**accepted(function, offered), **self._named[component].params})

    def _function(self, component: str) -> Callable[..., Any]:
        return self.script.function(self._named[component].name)

    def _container_options(self, function: Callable[..., Any], known: type[Config]) -> dict[str, Any]:
        """Those of the container's options that the user wrote, or that the function can't be called without."""
        parameters = inspect.signature(function).parameters.values()
        needed = [each.name for each in parameters if each.default is each.empty]
        written = self._config.written(*known.model_fields)
        return {name: getattr(self._config, name) for name in known.model_fields if name in written or name in needed}


def makes_batches(config: Any) -> bool:
    """Whether functions make what models are fed: it is kept as they made it."""
    return PRE in config.functions or DATALOADER in config.functions

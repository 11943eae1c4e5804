"""What containers have in common whose components functions of the user's may be."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from hfopt import DataContainer, DataContext, Dataset
from hfopt.api.data import DataSection, ReadData
from hfopt_data_containers.batches import Made, Stored, write
from hfopt_data_containers.functions import Options
from hfopt_data_containers.processed import Processed
from hfopt_data_containers.script import ScriptOptions, accepted
from hfopt_data_containers.spellings import SpelledSection, normalize, types_of

LOAD, PRE, POST, DATALOADER = "load_dataset", "pre_process_data", "post_process_data", "dataloader"
Types = Mapping[str, Mapping[str, str | None]]
AS_THEY_ARE: Mapping[str, str | None] = {"skip_dataloader": None, "no_auto_batch_dataloader": None}
"""Dataloaders of what is batches already."""
SAME: Types = {PRE: {"pre_process": None}, POST: {"post_process": None}}


class ContainerOptions(ScriptOptions):
    """Options of these containers, once spellings are normalized."""

    types: dict[str, str] = Field({}, description="As components: the type of each.")
    component_kwargs: dict[str, Options] = Field({}, description="Options by component.")
    options: Options = Field({}, description="Others, which go to every function that takes them.")

    def function(self, component: str, known: Types) -> str | None:
        """The function that a component is."""
        name = self.types.get(component)
        return None if name is None or name in known[component] else name


class ComponentContainer(DataContainer):
    """Its components have the types that Olive has, or are functions of user_script."""

    Section: ClassVar[type[DataSection]] = SpelledSection
    components: ClassVar[Types]
    flat: ClassVar[tuple[str, ...]] = ()
    """Components whose options are the container's own."""
    scripted: ClassVar[tuple[str, ...]] = (POST,)
    """Components that may be functions."""
    config: ContainerOptions
    predicts_with_paths = True

    @classmethod
    def read(cls, section: SpelledSection, defaults: Mapping[str, Any]) -> ReadData:
        read = normalize(section, cls.components, cls.scripted)
        params, places = dict(read.params), dict(read.places)
        nested = {name: dict(each or {}) for name, each in (params.pop("component_kwargs", None) or {}).items()}
        for component in cls.flat:
            inside = ("params_config", "component_kwargs", component)
            for name, value in nested.pop(component, {}).items():
                params[name] = value
                places["params_config", name] = places.get((*inside, name), (*inside, name))
        for name in ("user_script", "script_dir"):
            if getattr(section, name) is not None:
                params[name], places["params_config", name] = getattr(section, name), (name,)
        params |= {"component_kwargs": nested, "types": types_of(section, cls.components)}
        return replace(read, params=params, places=places)

    def prepare(self, context: DataContext) -> None:
        write(self._made(), context.folder, context.progress)

    @abstractmethod
    def _made(self) -> Iterator[Made]:
        """The batches, one after another."""

    def open(self, folder: Path) -> Dataset:
        process = partial(self.call, POST) if self.has(POST) else None
        return Processed(Stored(folder), process, f"{self.config.user_script}: {self.config.types.get(POST)}")

    def call(self, component: str, *arguments: Any) -> Any:
        """Call the function that a component is, with its options and those that it takes of the container's."""
        name, offered = self.config.function(component, self.components), self.config.options
        function = self.config.script.function(str(name))
        if (data_dir := getattr(self.config, "data_dir", None)) is not None:
            offered = {"data_dir": data_dir, **offered}
        if component == DATALOADER:
            offered = {"batch_size": getattr(self.config, "batch_size", None), **offered}
        return function(
            *arguments, **{**accepted(function, offered), **self.config.component_kwargs.get(component, {})}
        )

    def has(self, component: str) -> bool:
        """Whether a component is a function."""
        return self.config.function(component, self.components) is not None

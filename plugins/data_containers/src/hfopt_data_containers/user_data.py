"""DataContainer: data that functions of the user's load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from hfopt import Config, InputPath, Problem
from hfopt.api.data import ReadData
from hfopt_data_containers.batches import Made
from hfopt_data_containers.collating import collated
from hfopt_data_containers.container import (
    AS_THEY_ARE,
    DATALOADER,
    LOAD,
    POST,
    PRE,
    SAME,
    ComponentContainer,
    ContainerOptions,
    Types,
)
from hfopt_data_containers.loading import items_of, made_by
from hfopt_data_containers.script import check_options
from hfopt_data_containers.spellings import SpelledSection

_LOADS_NOTHING = "loads nothing; name a function of user_script"


class UserDataOptions(ContainerOptions):
    """Options of ``DataContainer``: what else stands in ``params_config`` is ``options``."""

    data_dir: InputPath | None = Field(None, description="A file or folder, for the functions that take it.")
    batch_size: int = Field(1, ge=1, description="Rows in a batch.")


class UserData(ComponentContainer):
    """Data that functions of yours load, preprocess, batch or postprocess."""

    Config: ClassVar[type[Config]] = UserDataOptions
    components: ClassVar[Types] = {
        LOAD: {
            "local_dataset": _LOADS_NOTHING,
            "simple_dataset": _LOADS_NOTHING,
            "dummy_dataset": "belongs to DummyDataContainer",
            "raw_dataset": "belongs to RawDataContainer",
            "huggingface_dataset": "belongs to HuggingfaceContainer",
        },
        **SAME,
        DATALOADER: {"default_dataloader": None, "default_calibration_dataloader": None, **AS_THEY_ARE},
    }
    scripted = (LOAD, PRE, POST, DATALOADER)
    config: UserDataOptions

    @classmethod
    def read(cls, section: SpelledSection, defaults: Mapping[str, Any]) -> ReadData:
        read = super().read(section, defaults)
        options = {name: value for name, value in read.params.items() if name not in UserDataOptions.model_fields}
        params = {name: value for name, value in read.params.items() if name not in options}
        read = replace(read, params={**params, "options": options})
        if LOAD in read.params["types"]:
            return read
        fact = "is required: a function of user_script that returns a dataset"
        return replace(read, problems=(*read.problems, Problem(("components", LOAD, "type"), fact)))

    def _made(self) -> Iterator[Made]:
        config, script = self.config, self.config.script
        named = [config.function(component, self.components) for component in self.components]
        check_options([script.function(name) for name in named if name is not None], config.options, script.file)
        loaded = self.call(LOAD)
        if self.has(PRE):
            loaded = self.call(PRE, loaded)
        if self.has(DATALOADER):
            return made_by(self.call(DATALOADER, loaded), f"{script.file}: {config.types[DATALOADER]}", script)
        what = f"{script.file}: {config.types[PRE] if self.has(PRE) else config.types[LOAD]}"
        if config.types.get(DATALOADER) in AS_THEY_ARE:
            return made_by(loaded, what, script)
        size = config.component_kwargs.get(DATALOADER, {}).get("batch_size", config.batch_size)
        return collated(items_of(loaded, what, script), size)

"""HuggingfaceContainer: a dataset as rows of token ids, prepared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hfopt import Config, DataContainer, DataContext, Dataset
from hfopt.api.data import DataSection, ReadData
from hfopt.api.forecast import MEGABYTE
from hfopt_data_containers.batches import Stored
from hfopt_data_containers.container import POST
from hfopt_data_containers.processed import Processed
from hfopt_data_containers.spellings import SpelledSection, normalize, types_of
from hfopt_hf_data.config import COMPONENTS, HuggingfaceContainerConfig, with_defaults
from hfopt_hf_data.scripted import Functions, makes_batches
from hfopt_hf_data.tasks import TASKS, TEXT_CLASSIFICATION


class HuggingfaceContainer(DataContainer):
    """Datasets of the hub, and local ones, as the model of a task reads them."""

    Config: ClassVar[type[Config]] = HuggingfaceContainerConfig
    Section: ClassVar[type[DataSection]] = SpelledSection
    components = COMPONENTS
    memory: ClassVar[Mapping[str, float]] = {"torch and transformers": 350 * MEGABYTE, "datasets": 80 * MEGABYTE}
    config: HuggingfaceContainerConfig

    @classmethod
    def read(cls, section: SpelledSection, defaults: Mapping[str, Any]) -> ReadData:
        read = normalize(section, COMPONENTS, COMPONENTS)
        script = {name: getattr(section, name) for name in ("user_script", "script_dir") if getattr(section, name)}
        places = {("params_config", name): (name,) for name in script if name not in read.params}
        params = with_defaults({**script, **_with_functions(read.params, types_of(section, COMPONENTS))}, defaults)
        return replace(read, params=params, places={**places, **read.places})

    @property
    def predicts_with_paths(self) -> bool:
        return POST in self.config.functions

    def prepare(self, context: DataContext) -> None:
        from hfopt_hf_data.prepare import prepare

        prepare(self.config, context)

    def open(self, folder: Path) -> Dataset:
        config, task = self.config, TASKS[self.config.task or TEXT_CLASSIFICATION]
        dataset: Dataset = Stored(folder) if makes_batches(config) else task.load(task.reader)(folder, config)
        if POST not in config.functions:
            return dataset
        functions = Functions(config)
        return Processed(dataset, partial(functions.call, POST), functions.called(POST))


def _with_functions(params: Mapping[str, Any], types: Mapping[str, str]) -> Mapping[str, Any]:
    """``params_config`` in which components that are functions, and options that only these can take, are apart.

    :param types: of components, as the config has them
    """
    named = {component: name for component, name in types.items() if name not in COMPONENTS[component]}
    nested = params.get("component_kwargs")
    if not named or not isinstance(nested, dict | None):
        return params
    inside = {component: (nested or {}).get(component) or {} for component in named}
    options = {name: value for name, value in params.items() if name not in HuggingfaceContainerConfig.model_fields}
    return {
        **{name: value for name, value in params.items() if name not in options},
        "component_kwargs": {name: value for name, value in (nested or {}).items() if name not in named},
        "functions": {component: {"name": name, "params": inside[component]} for component, name in named.items()},
        "options": options,
    }

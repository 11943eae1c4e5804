"""HuggingfaceContainer: a dataset as rows of token ids, prepared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hfopt import Config, DataContainer, DataContext, Dataset
from hfopt.api.data import DataSection, ReadData
from hfopt_data_containers.spellings import SpelledSection, normalize
from hfopt_hf_data.config import COMPONENTS, HuggingfaceContainerConfig, with_defaults
from hfopt_hf_data.tasks import TASKS, TEXT_CLASSIFICATION


class HuggingfaceContainer(DataContainer):
    """Datasets of the hub, and local ones, as the model of a task reads them."""

    Config: ClassVar[type[Config]] = HuggingfaceContainerConfig
    Section: ClassVar[type[DataSection]] = SpelledSection
    components = COMPONENTS
    config: HuggingfaceContainerConfig

    @classmethod
    def read(cls, section: SpelledSection, defaults: Mapping[str, Any]) -> ReadData:
        read = normalize(section, COMPONENTS)
        script = {name: getattr(section, name) for name in ("user_script", "script_dir") if getattr(section, name)}
        places = {("params_config", name): (name,) for name in script if name not in read.params}
        params = with_defaults({**script, **read.params}, defaults)
        return replace(read, params=params, places={**places, **read.places})

    def prepare(self, context: DataContext) -> None:
        from hfopt_hf_data.prepare import prepare

        prepare(self.config, context)

    def open(self, folder: Path) -> Dataset:
        task = TASKS[self.config.task or TEXT_CLASSIFICATION]
        dataset: Dataset = task.load(task.reader)(folder, self.config)
        return dataset

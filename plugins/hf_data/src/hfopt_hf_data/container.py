"""HuggingfaceContainer: a dataset as rows of token ids and a label, prepared once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from hfopt import Config, DataContainer, DataContext, Dataset
from hfopt_hf_data.config import COMPONENTS, HuggingfaceContainerConfig, with_defaults


class HuggingfaceContainer(DataContainer):
    """Datasets of the hub, and local ones, for text classification."""

    Config: ClassVar[type[Config]] = HuggingfaceContainerConfig
    components = COMPONENTS
    config: HuggingfaceContainerConfig

    @classmethod
    def with_defaults(cls, params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        return with_defaults(params, defaults)

    def prepare(self, context: DataContext) -> None:
        from hfopt_hf_data.prepare import prepare

        prepare(self.config, context)

    def open(self, folder: Path) -> Dataset:
        from hfopt_hf_data.rows import Rows

        return Rows(folder, self.config.batch_size)

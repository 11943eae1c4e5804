"""HuggingfaceContainer: a dataset as rows of token ids, prepared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hfopt import Config, DataContainer, DataContext, Dataset
from hfopt.api.data import DataSection, ReadData
from hfopt_hf_data.config import COMPONENTS, HuggingfaceContainerConfig, with_defaults
from hfopt_hf_data.generation import TEXT_GENERATION
from hfopt_hf_data.spellings import SpelledSection, normalize


class HuggingfaceContainer(DataContainer):
    """Datasets of the hub, and local ones, for text classification and text generation."""

    Config: ClassVar[type[Config]] = HuggingfaceContainerConfig
    Section: ClassVar[type[DataSection]] = SpelledSection
    components = COMPONENTS
    config: HuggingfaceContainerConfig

    @classmethod
    def read(cls, section: SpelledSection, defaults: Mapping[str, Any]) -> ReadData:
        read = normalize(section, COMPONENTS)
        return replace(read, params=with_defaults(read.params, defaults))

    def prepare(self, context: DataContext) -> None:
        from hfopt_hf_data.prepare import prepare

        prepare(self.config, context)

    def open(self, folder: Path) -> Dataset:
        from hfopt_hf_data.next_tokens import NextTokens
        from hfopt_hf_data.rows import Rows

        config = self.config
        if config.task == TEXT_GENERATION:
            return NextTokens(folder, config.batch_size, masked=config.use_attention_mask)
        return Rows(folder, config.batch_size)

"""PyTorchModel: a folder in Hugging Face format, described without its weights and opened in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hfopt import Accelerator, Config, FetchContext, ModelHandle, ModelLoader, Session
from hfopt_hf_model_loader.config import PyTorchModelConfig


class PyTorchModel(ModelLoader):
    """Hugging Face models in PyTorch, from a local folder."""

    Config: ClassVar[type[Config]] = PyTorchModelConfig
    config: PyTorchModelConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        from hfopt_hf_model_loader import folder, inputs

        place = self.config.folder
        attributes = folder.read_config(place)
        weights = folder.weights(place)
        model_class = inputs.model_class(self.config.hf_config, place)
        inputs.check_head(model_class, attributes, self.config.hf_config.task)
        return ModelHandle(
            type="PyTorchModel",
            path=place,
            files=weights,
            companions=folder.companions(place),
            config={"hf_config": self.config.hf_config.model_dump(mode="json", exclude={"model_name"})},
            inputs=inputs.describe(model_class, attributes, place),
            attributes={**attributes, **self.config.model_attributes},
        )

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        from hfopt_hf_model_loader.session import load

        return load(handle, self.config.hf_config, settings)

    @classmethod
    def data_defaults(cls, config: Any) -> dict[str, Any]:
        return {"model_name": str(config.folder), "task": config.hf_config.task}

    def snippet(self, handle: ModelHandle) -> str:
        from hfopt_hf_model_loader.inputs import class_name

        name = class_name(self.config.hf_config)
        return f'from transformers import {name}\n\nmodel = {name}.from_pretrained(".")'

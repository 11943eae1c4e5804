"""PyTorchModel: a folder in Hugging Face format, described without its weights and opened in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hfopt import Accelerator, Config, FetchContext, ModelHandle, ModelLoader, Session
from hfopt_hf_model_loader.config import MLFLOW, PyTorchModelConfig
from hfopt_hf_model_loader.hf_config import FromPretrainedArgs

_OTHER_SIZES = "ignore_mismatched_sizes"


class PyTorchModel(ModelLoader):
    """Hugging Face models in PyTorch, from a local folder or the hub."""

    Config: ClassVar[type[Config]] = PyTorchModelConfig
    preload = ("torch", "transformers.modeling_utils")
    config: PyTorchModelConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        from hfopt_hf_model_loader import architecture, folder, mlflow, sizes

        place, hf_config = self.config.folder, self.config.hugging_face
        if self.config.model_file_format == MLFLOW:
            place, hf_config = mlflow.gather(place, hf_config, context)
        arguments = hf_config.from_pretrained_args or FromPretrainedArgs()
        attributes = folder.read_config(place)
        companions = folder.companions(place)
        weights = folder.weights(place)
        sizes.check_counts(attributes, weights, place / folder.CONFIG)
        own = architecture.read(place)
        model_class = architecture.model_class(hf_config, own)
        architecture.check_head(model_class, attributes, hf_config.task)
        exact = "quantization_config" not in attributes and not (arguments.extra_args or {}).get(_OTHER_SIZES)
        sizes.check_shapes(model_class, own, weights, place / folder.CONFIG, exact=exact)
        inputs = architecture.inputs(model_class, own, place)
        return ModelHandle(
            type="PyTorchModel",
            path=place,
            files=weights.files,
            companions=companions,
            config={"hf_config": hf_config.model_dump(mode="json", exclude={"model_name"})},
            inputs=inputs,
            attributes={**attributes, **(self.config.model_attributes or {})},
        )

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        from hfopt_hf_model_loader.session import load

        return load(handle, self.config.hugging_face, accelerator, settings)

    @classmethod
    def unavailable(cls, accelerator: Accelerator) -> str | None:
        from hfopt_hf_model_loader.session import why_unavailable

        return why_unavailable(accelerator)

    @classmethod
    def data_defaults(cls, config: Any) -> dict[str, Any]:
        from hfopt_hf_model_loader import mlflow

        if config.model_file_format == MLFLOW:
            return mlflow.data_defaults(config.folder, config.hugging_face)
        return {"model_name": config.place, "task": config.hugging_face.task}

    def snippet(self, handle: ModelHandle) -> str:
        from hfopt_hf_model_loader.architecture import class_name

        name = class_name(self.config.hugging_face)
        load = f'model = {name}.from_pretrained(".")'
        if not any(path.name == "tokenizer.json" for path in handle.companions):
            return f"from transformers import {name}\n\n{load}"
        return (
            f"from transformers import {name}, AutoTokenizer\n\n"
            f'{load}\ntokenizer = AutoTokenizer.from_pretrained(".")\n'
            'outputs = model(**tokenizer("What a lovely film", return_tensors="pt"))'
        )

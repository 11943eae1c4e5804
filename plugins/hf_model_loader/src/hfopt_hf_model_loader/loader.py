"""PyTorchModel: a folder in Hugging Face format, described without its weights and opened in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from hfopt import Accelerator, Config, FetchContext, ModelHandle, ModelLoader, Session
from hfopt_hf_model_loader.config import MLFLOW, PyTorchModelConfig

_OTHER_SIZES = "ignore_mismatched_sizes"


class PyTorchModel(ModelLoader):
    """Hugging Face models in PyTorch, from a local folder or the hub."""

    Config: ClassVar[type[Config]] = PyTorchModelConfig
    preload = ("torch", "transformers.modeling_utils")
    config: PyTorchModelConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        from hfopt_hf_model_loader import (
            adapters,
            architecture,
            file_formats,
            folder,
            generation,
            mlflow,
            own_classes,
            sizes,
        )
        from hfopt_hf_model_loader.arguments import check_packages
        from hfopt_hf_model_loader.inputs import inputs

        place, hf_config = self.config.folder, self.config.hugging_face
        kind = self.config.model_file_format
        if kind == MLFLOW:
            place, hf_config = mlflow.gather(place, hf_config, context)
        arguments, trusted = hf_config.arguments, bool(hf_config.arguments.trust_remote_code)
        check_packages(arguments)
        attributes = folder.read_config(place)
        own_classes.check(attributes, place, trusted=trusted)
        companions = folder.companions(place) + (own_classes.files(place) if trusted else ())
        file = self.config.file
        weights = folder.weights(place) if file is None else file_formats.look_at(file, str(kind))
        if weights.shapes:
            sizes.check_counts(attributes, weights, place / folder.CONFIG)
        own = architecture.read(place, trusted=trusted)
        model_class = architecture.model_class(hf_config, own, place)
        adapter = None if self.config.adapter_path is None else adapters.read(Path(self.config.adapter_path))
        if adapter is None and file is None:  # else the head may be in another file than the one config.json is of
            architecture.check_head(model_class, attributes, hf_config.task)
        exact = "quantization_config" not in attributes and not (arguments.extra_args or {}).get(_OTHER_SIZES)
        if weights.shapes:
            sizes.check_shapes(model_class, own, weights, place / folder.CONFIG, exact=exact)
        taken = (
            generation.inputs(model_class, own) if generation.keeps_past(hf_config) else inputs(model_class, own, place)
        )
        return ModelHandle(
            type="PyTorchModel",
            path=place,
            files=weights.files + (() if adapter is None else adapter.files),
            companions=companions,
            config={
                "hf_config": hf_config.model_dump(mode="json", exclude={"model_name"}),
                **self.config.model_dump(include={"adapter_path", "model_file_format", "allow_pickle"}),
                "model_path": None if file is None else str(file),
            },
            inputs=taken,
            attributes={**architecture.attributes(own), **attributes, **(self.config.model_attributes or {})},
        )

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        from hfopt_hf_model_loader.session import load

        return load(handle, self.config, accelerator, settings)

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
        from hfopt_hf_model_loader.architecture import class_names

        names = class_names(self.config.hugging_face)
        name = names[0] if len(names) == 1 else handle.attributes.get("architectures", names)[0]
        load = f'model = {name}.from_pretrained(".")'
        if not any(path.name == "tokenizer.json" for path in handle.companions):
            return f"from transformers import {name}\n\n{load}"
        return (
            f"from transformers import {name}, AutoTokenizer\n\n"
            f'{load}\ntokenizer = AutoTokenizer.from_pretrained(".")\n'
            'outputs = model(**tokenizer("What a lovely film", return_tensors="pt"))'
        )

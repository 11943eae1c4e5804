"""PyTorchModel: a folder in Hugging Face format, described without its weights and opened in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hfopt import Accelerator, Config, FetchContext, ModelHandle, ModelLoader, PreconditionFailed, Session
from hfopt.api.forecast import MEGABYTE, Weights
from hfopt.api.references import MARK
from hfopt_hf_model_loader.config import MLFLOW, PyTorchModelConfig

_OTHER_SIZES = "ignore_mismatched_sizes"


class PyTorchModel(ModelLoader):
    """Hugging Face models in PyTorch, from a local folder or the hub."""

    Config: ClassVar[type[Config]] = PyTorchModelConfig
    preload = ("torch", "transformers.modeling_utils")
    memory: ClassVar[Mapping[str, float]] = {"torch and transformers": 350 * MEGABYTE}
    config: PyTorchModelConfig

    def forecast(self) -> Weights | None:
        from hfopt_hf_model_loader.forecast import weights_of

        return weights_of(self.config.folder)

    def fetch(self, context: FetchContext) -> ModelHandle:
        components = self.config.hugging_face.components
        if not self.config.scripted and not components:
            return self._hugging_face(context)
        from hfopt_hf_model_loader import scripted

        handle = scripted.by_itself(self.config) if self.config.by_itself else self._hugging_face(context)
        if components:
            return scripted.composite(handle, self.config, components)
        return scripted.described(handle, self.config)

    def _hugging_face(self, context: FetchContext) -> ModelHandle:
        """A model that has a config.json."""
        from hfopt_hf_model_loader import (
            adapters,
            architecture,
            file_formats,
            folder,
            generation,
            mlflow,
            own_classes,
            seq2seq,
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
        adapter = None if self.config.adapter is None else adapters.read(self.config.adapter)
        if adapter is None and file is None:  # else the head may be in another file than the one config.json is of
            architecture.check_head(model_class, attributes, hf_config.task)
        exact = "quantization_config" not in attributes and not (arguments.extra_args or {}).get(_OTHER_SIZES)
        if weights.shapes:
            sizes.check_shapes(model_class, own, weights, place / folder.CONFIG, exact=exact)
        with_past, decodes = generation.keeps_past(hf_config, model_class), seq2seq.is_seq2seq(model_class)
        apart = self.config.scripted or hf_config.components
        try:
            taken = inputs(model_class, own, place) if decodes or not with_past else generation.inputs(model_class, own)
        except PreconditionFailed:
            if not apart:
                raise
            taken = ()  # the script says
        handle = ModelHandle(
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
        if apart or not (with_past and decodes):
            return handle
        parts = seq2seq.parts(model_class, own, taken, generation.SEQ2SEQ.get(hf_config.task or "", "seq2seq-lm"))
        return handle.with_(
            components={name: handle.with_(files=(), inputs=specs) for name, specs in parts.items()},
        )

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        from hfopt_hf_model_loader import file_formats, generation, scripted, seq2seq, stored
        from hfopt_hf_model_loader.session import TorchSession, device_for, load

        device, attention = device_for(accelerator, settings), settings.get("attn_implementation")
        if self.config.scripted:
            return scripted.opened(handle, self.config, device, attention)
        if settings.get("brief") and device == "cpu":
            session = stored.opened(handle, self.config, attention)
            if session is not None:
                return session
        model = load(handle.path, self.config, device, attention)
        if generation.keeps_past(self.config.hugging_face, type(model)):
            names = [spec.name for spec in handle.inputs]
            decodes = seq2seq.is_seq2seq(type(model))
            model = seq2seq.part_of(model, names) if decodes else generation.with_past(model)
        if self.config.whole_file:
            headless = self.config.hugging_face.task == "feature-extraction"
            model = file_formats.naming(model, ("last_hidden_state", "pooler_output") if headless else ("logits",))
        return TorchSession(model, handle.inputs, device)

    @classmethod
    def unavailable(cls, accelerator: Accelerator) -> str | None:
        from hfopt_hf_model_loader.session import why_unavailable

        return why_unavailable(accelerator)

    @classmethod
    def data_defaults(cls, config: Any) -> dict[str, Any]:
        from hfopt_hf_model_loader import mlflow

        if config.model_file_format == MLFLOW and not config.place.startswith(MARK):
            return mlflow.data_defaults(config.folder, config.hugging_face)
        place = config.hugging_face.model_name if config.model_file_format == MLFLOW else config.place
        return {"model_name": place, "task": config.hugging_face.task}

    def snippet(self, handle: ModelHandle) -> str:
        from hfopt_hf_model_loader.architecture import class_names

        hf_config = self.config.hugging_face
        if self.config.model_loader is not None or hf_config.task is hf_config.model_class is None:
            return ""
        names = class_names(hf_config)
        name = names[0] if len(names) == 1 else handle.attributes.get("architectures", names)[0]
        load = f'model = {name}.from_pretrained(".")'
        if not any(path.name == "tokenizer.json" for path in handle.companions):
            return f"from transformers import {name}\n\n{load}"
        return (
            f"from transformers import {name}, AutoTokenizer\n\n"
            f'{load}\ntokenizer = AutoTokenizer.from_pretrained(".")\n'
            'outputs = model(**tokenizer("What a lovely film", return_tensors="pt"))'
        )

"""CompositeModel: a model that is its named parts, such as an encoder and a decoder; parts that write run as one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from hfopt import Accelerator, Config, FetchContext, ModelHandle, ModelLoader, PreconditionFailed, Session
from hfopt.api.config import OptionError, PlainName
from hfopt.api.model import COMPOSITE
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig
from hfopt_onnx_model.providers import why_unavailable
from hfopt_onnx_model.seq2seq import WritingSession, whole_inputs, writes

_ONNX = "ONNXModel"


def _options(part: Any) -> Any:
    """The options of a part, which is written as an input model is."""
    if not isinstance(part, dict) or "type" not in part:
        return part
    if str(part["type"]).casefold() != _ONNX.casefold() or not part.keys() <= {"type", "config"}:
        raise ValueError(f"a part is of type {_ONNX}, with its config")
    return part.get("config", {})


class CompositeModelConfig(Config):
    """Options of ``CompositeModel``."""

    model_components: tuple[Annotated[ONNXModelConfig, BeforeValidator(_options)], ...] = Field(
        (), description="The parts, each an ONNXModel, written as an input model is."
    )
    model_component_names: tuple[PlainName, ...] = Field((), description="Their names, in the same order.")
    model_attributes: dict[str, Any] = Field({}, description="Attributes that passes may ask for, of every part.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        parts, names = len(self.model_components), len(self.model_component_names)
        if parts != names:
            raise OptionError("model_component_names", f"has {names} names, and there are {parts} model_components")
        if len({name.casefold() for name in self.model_component_names}) < names:
            raise OptionError("model_component_names", "must be different names")
        return self


class CompositeModel(ModelLoader):
    """Several ONNX models as one: a pass runs on each, and they are saved together."""

    Config: ClassVar[type[Config]] = CompositeModelConfig
    makes = frozenset({_ONNX})
    config: CompositeModelConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        if not self.config.model_components:
            raise PreconditionFailed("a CompositeModel needs model_components")
        named = zip(self.config.model_component_names, self.config.model_components, strict=True)
        parts = {name: ONNXModel(each).fetch(context) for name, each in named}
        parts = {
            name: each.with_(attributes={**self.config.model_attributes, **each.attributes})
            for name, each in parts.items()
        }
        inputs = {name: each.inputs for name, each in parts.items()}
        return ModelHandle(
            type=COMPOSITE,
            path=context.folder,
            files=(),
            inputs=whole_inputs(inputs) if writes(parts) else (),
            attributes=self.config.model_attributes,
            components=parts,
        )

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        if writes(handle.components) and all(each.type == _ONNX for each in handle.components.values()):
            with ExitStack() as opened:
                parts = {
                    name: opened.enter_context(ONNXModel(ONNXModelConfig()).open(each, accelerator, settings))
                    for name, each in handle.components.items()
                }
                opened.pop_all()
            return WritingSession(parts)
        raise PreconditionFailed(
            f"a model of the parts {', '.join(handle.components)} is opened part by part, not as a whole",
            hint="measure its size, or make a part a model of its own and measure that",
        )

    @classmethod
    def unavailable(cls, accelerator: Accelerator) -> str | None:
        return why_unavailable(accelerator)

    def snippet(self, handle: ModelHandle) -> str:
        opened = "\n".join(
            f'    "{name}": onnxruntime.InferenceSession("{each.path.relative_to(handle.path)}"),'
            for name, each in handle.components.items()
        )
        return f"import onnxruntime\n\nparts = {{\n{opened}\n}}"

"""OptimumModel: the ONNX files that somebody has exported from a Hugging Face model, one or several as one.

From here on they are what `ONNXModel` opens: one file is such a model, several are the parts of a CompositeModel. Where
one is lacking, all are parts of the model in PyTorch, which OnnxConversion writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from hfopt import (
    Accelerator,
    Config,
    FetchContext,
    ModelHandle,
    ModelLoader,
    PreconditionFailed,
    Reference,
    Session,
)
from hfopt.api.config import ConfigContext, OptionError, plain_name
from hfopt.api.model import COMPOSITE
from hfopt.api.references import MARK
from hfopt_hf_model_loader.config import ModelPlace, PyTorchModelConfig
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_onnx_model.seq2seq import MERGED, whole_inputs, writes

_ONNX = "ONNXModel"
WHOLE = "model"
"""What a file is called that is the model, not a part of it."""


def _files(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        path = PurePosixPath(name)
        if path.suffix != ".onnx" or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name!r} is not the name of an .onnx file in the model's folder")
    stems = Counter(plain_name(PurePosixPath(name).stem) for name in names)
    if twice := [stem for stem, count in stems.items() if count > 1]:
        raise ValueError(f"two components would be called {twice[0]!r}")
    if not names:
        raise ValueError("names no files")
    return names


class OptimumModelConfig(Config):
    """Options of ``OptimumModel``."""

    model_path: ModelPlace = Field(description="A local folder, or a model on the hub.")
    model_components: Annotated[tuple[str, ...], AfterValidator(_files)] = Field(
        description="The ONNX files in it: one is the model, several are its components, by their names without .onnx. "
        "If one is lacking, what OnnxConversion is to write: model.onnx, or decoder_model.onnx and its like."
    )
    hf_config: HfConfig | None = Field(None, description="What model it was exported from; the task is the data's too.")
    model_attributes: dict[str, Any] | None = Field(None, description="Merged over the model's own config.")

    @model_validator(mode="after")
    def _pin(self, info: ValidationInfo) -> Self:
        """What is on the hub, at the revision written: the named files with the data beside them, else the weights."""
        if self.hf_config is not None and self.hf_config.components is not None:
            raise OptionError(("hf_config", "components"), "an OptimumModel has model_components instead")
        if not isinstance(info.context, ConfigContext) or not self.model_path.startswith(MARK):
            return self
        arguments = (self.hf_config or HfConfig()).arguments
        options = {
            "revision": (arguments.extra_args or {}).get("revision"),
            "files": [f"{escape(name)}*" for name in self.model_components],
        }
        name = Reference.of(self.model_path).config["name"]
        return self.model_copy(update={"model_path": Reference("hf_model", {"name": name, **options}).token})


class OptimumModel(ModelLoader):
    """Exported ONNX files of a Hugging Face model, from a local folder or the hub."""

    Config: ClassVar[type[Config]] = OptimumModelConfig
    makes = frozenset({_ONNX, "PyTorchModel"})
    config: OptimumModelConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        from hfopt_hf_model_loader import folder

        place = Path(self.config.model_path)
        if missing := [name for name in self.config.model_components if not folder.has(place, name)]:
            try:
                return self._in_pytorch(place, context)
            except PreconditionFailed as error:
                fact = f"{place} has no {' and no '.join(missing)}, which can't be made either: {error.message}"
                raise PreconditionFailed(fact, hint=error.hint) from error
        attributes, companions = self._attributes(place), folder.companions(place)
        parts = {
            PurePosixPath(name).stem: _part(folder.inside(place, name), attributes)
            for name in self.config.model_components
        }
        if len(parts) == 1:
            return next(iter(parts.values())).with_(companions=companions)
        taken = {name: part.inputs for name, part in parts.items()}
        return ModelHandle(
            type=COMPOSITE,
            path=place,
            files=(),
            companions=companions,
            inputs=whole_inputs(taken) if writes(parts) else (),
            attributes=attributes,
            components=parts,
        )

    def _in_pytorch(self, place: Path, context: FetchContext) -> ModelHandle:
        """The model with the components that OnnxConversion is to write.

        :raises PreconditionFailed: it is not there either, or has no components of these names
        """
        from hfopt_hf_model_loader import folder, generation
        from hfopt_hf_model_loader.loader import PyTorchModel
        from hfopt_hf_model_loader.tasks import WITH_PAST

        stems = [PurePosixPath(name).stem for name in self.config.model_components]
        hf_config = self.config.hf_config or HfConfig()
        if hf_config.task is None and hf_config.model_class is None:
            saved = folder.read_config(place).get("architectures") or ["AutoModel"]
            hf_config = hf_config.model_copy(update={"model_class": saved[0]})
        if stems != [WHOLE]:
            feature = f"{hf_config.task or generation.WITHOUT}{WITH_PAST}"
            hf_config = hf_config.model_copy(update={"feature": feature})
        options = {"model_path": str(place), "model_attributes": self.config.model_attributes}
        handle = PyTorchModel(PyTorchModelConfig(**options, hf_config=hf_config)).fetch(context)
        if stems == [WHOLE]:
            return handle
        parts = handle.components or generation.steps(handle)
        if unknown := [stem for stem in stems if stem not in parts]:
            raise PreconditionFailed(
                f"{unknown[0]} is none of its parts, which are {', '.join(parts)}",
                hint=f"OptimumMerging makes {MERGED} of the other two" if unknown == [MERGED] else None,
            )
        return handle.with_(components={stem: parts[stem] for stem in stems})

    def _attributes(self, place: Path) -> dict[str, Any]:
        """config.json as transformers understands it, or as it is."""
        from hfopt_hf_model_loader import architecture, folder

        found: dict[str, Any] = {}
        if folder.has(place, folder.CONFIG):
            found = folder.read_config(place)
            with suppress(PreconditionFailed):
                found = {**architecture.attributes(architecture.read(place)), **found}
        return {**found, **(self.config.model_attributes or {})}

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        raise PreconditionFailed(f"{handle.path} is opened as what it is, by {_ONNX}")

    @classmethod
    def unavailable(cls, accelerator: Accelerator) -> str | None:
        from hfopt_onnx_model.providers import why_unavailable

        return why_unavailable(accelerator)

    @classmethod
    def data_defaults(cls, config: Any) -> dict[str, Any]:
        return {"model_name": config.model_path, "task": (config.hf_config or HfConfig()).task}


def _part(file: Path, attributes: dict[str, Any]) -> ModelHandle:
    from hfopt_onnx_model.graph import look_at

    files, inputs, outputs = look_at(file)
    return ModelHandle(type=_ONNX, path=file, files=files, inputs=inputs, outputs=outputs, attributes=attributes)

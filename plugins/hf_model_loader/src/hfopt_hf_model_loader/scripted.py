"""Models as a user's script says: its loader, its io_config, its dummy inputs. Called in workers only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hfopt import Config, ModelHandle, PreconditionFailed, Session, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.api.model import COMPOSITE
from hfopt.api.scripts import load_function
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.io_config import IoConfig
from hfopt_hf_model_loader.kv_cache import with_cache
from hfopt_hf_model_loader.named import Call, named_module, tensors_in
from hfopt_hf_model_loader.script_options import ComponentConfig, ScriptOptions

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

EXAMPLE_SIZE = 4


@dataclass(frozen=True)
class Script:
    """A user's script.

    :param folder: from which it may import
    """

    file: Path | None
    folder: Path | None = None

    def function(self, name: str) -> Any:
        """One of its functions.

        :raises PreconditionFailed: there is none of that name, or the script can't be loaded
        """
        if self.file is None:
            raise PreconditionFailed(f"there is no model_script that could have a function {name!r}")
        return load_function(self.file, name, folder=self.folder, names=dict.fromkeys(NAMES, LoadedModel))


@dataclass
class LoadedModel:
    """What the functions of a user's script get: a model, which is loaded when they ask for it.

    :param model_path: the model's folder or file; None: its loader knows
    """

    load: Callable[[], torch.nn.Module] = field(repr=False)
    model_path: str | None = None
    hf_config: HfConfig | None = None
    model_attributes: Mapping[str, Any] = field(default_factory=dict)
    io_config: IoConfig | None = None

    @cached_property
    def _module(self) -> torch.nn.Module:
        return self.load()

    def load_model(self, *_: Any) -> torch.nn.Module:
        """The module; of a component, that component's."""
        return self._module

    def get_hf_model_config(self) -> PretrainedConfig:
        """What transformers reads of config.json."""
        from hfopt_hf_model_loader.architecture import read

        if self.model_path is None or self.hf_config is None:
            raise PreconditionFailed("a model without hf_config has no config of Hugging Face's")
        return read(Path(self.model_path), trusted=bool(self.hf_config.arguments.trust_remote_code))


NAMES = ("LoadedModel", "OliveModelHandler", "PyTorchModelHandler")
"""What scripts find without importing it, for their annotations; the others are Olive's names for it."""


def io_of(io_config: IoConfig | str | None, script: Script, model: LoadedModel) -> IoConfig | None:
    """An io_config as it is written, or as a function of the script returns it.

    :raises PreconditionFailed: it returns something else
    """
    if not isinstance(io_config, str):
        return io_config
    found = script.function(io_config)(model)
    what = f"{script.file}: {io_config} must return an io_config"
    if not isinstance(found, Mapping):
        raise PreconditionFailed(f"{what}, a dict, and returned {_kind(found)}")
    try:
        return IoConfig.model_validate(dict(found), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        missing = f"{what} with {place}" if first["type"] == "missing" else None
        raise PreconditionFailed(missing or f"{what}: {place}: {first['msg']}") from error


def call_of(
    io_config: IoConfig | None,
    dummy_inputs_func: str | None,
    script: Script,
    model: LoadedModel,
    derived: Sequence[TensorSpec] = (),
) -> tuple[IoConfig, Call]:
    """How a model is called: as dummy inputs show, else with ones of input_shapes, else as is known of the model.

    :param derived: what is known of the inputs without a script
    :return: its io_config, which where there is none names what the dummy inputs have; and the call
    :raises PreconditionFailed: nothing says what it takes; or dummy inputs do not fit the names
    """
    import torch

    if dummy_inputs_func is not None:
        dummy = script.function(dummy_inputs_func)(model)
        io_config = io_config or _io_like([path for path, _ in tensors_in(dummy)], derived)
        try:
            return io_config, Call.like(dummy, io_config.input_names)
        except PreconditionFailed as error:
            raise PreconditionFailed(f"{script.file}: {dummy_inputs_func}: {error.message}") from error
    io_config = io_config or _io_like([spec.name for spec in derived], derived)
    if io_config.input_shapes is not None:
        types = io_config.input_types or ("float32",) * len(io_config.input_shapes)
        each = zip(io_config.input_names, io_config.input_shapes, types, strict=True)
        dummy = {name: torch.ones(shape, dtype=getattr(torch, dtype)) for name, shape, dtype in each}
        return io_config, Call.like(dummy, io_config.input_names)
    known = {spec.name: spec for spec in derived if spec.name in io_config.input_names}
    if len(known) < len(io_config.input_names):
        raise PreconditionFailed(
            "what the model takes is not known: io_config has no input_shapes, and there is no dummy_inputs_func",
            hint="write one of the two",
        )
    if io_config.dynamic_axes is None:
        io_config = io_config.model_copy(update={"dynamic_axes": _named_axes(derived)})
    axes = {axis for spec in derived for axis in spec.axes if isinstance(axis, str)}
    sizes = {part: EXAMPLE_SIZE for axis in axes for part in axis.split(" + ")}
    dummy = {name: torch.from_numpy(feed) for name, feed in example_feeds([*known.values()], sizes).items()}
    return io_config, Call.like(dummy, io_config.input_names)


def _io_like(names: Sequence[str], derived: Sequence[TensorSpec]) -> IoConfig:
    return IoConfig(input_names=tuple(names), dynamic_axes=_named_axes(derived))


def _named_axes(specs: Sequence[TensorSpec]) -> dict[str, dict[int, str]]:
    return {
        spec.name: {position: axis for position, axis in enumerate(spec.axes) if isinstance(axis, str)}
        for spec in specs
    }


def input_specs(io_config: IoConfig, call: Call, attributes: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """What a model takes: integers below the vocabulary's size, or up to the largest in the dummy inputs."""
    return tuple(
        TensorSpec(
            name=name,
            dtype=str(tensor.dtype).removeprefix("torch."),
            axes=io_config.axes(name, tuple(tensor.shape)),
            high=_bound(name, tensor, attributes),
        )
        for name, tensor in call.example.items()
    )


def _bound(name: str, tensor: torch.Tensor, attributes: Mapping[str, Any]) -> int | None:
    if tensor.is_floating_point():
        return None
    if name in ("input_ids", "decoder_input_ids") and isinstance(size := attributes.get("vocab_size"), int):
        return size
    return max(2, int(tensor.max()) + 1) if tensor.numel() else 2


def by_itself(config: PyTorchModelConfig) -> ModelHandle:
    """A model that a function or a file has all of; and what config.json says of it, if there is one."""
    from hfopt_hf_model_loader import architecture, folder

    path = config.file or Path(config.place or str(config.model_script))
    attributes: dict[str, Any] = {}
    if path.is_dir() and folder.has(path, folder.CONFIG) and config.hf_config is not None:
        own = architecture.read(path, trusted=bool(config.hf_config.arguments.trust_remote_code))
        attributes = {**architecture.attributes(own), **folder.read_config(path)}
    return ModelHandle(
        type="PyTorchModel",
        path=path,
        files=(path,) if path.is_file() else tuple(sorted(each for each in path.rglob("*") if each.is_file())),
        config={
            "hf_config": plain(config.hf_config),
            **config.model_dump(include={"model_path", "model_file_format", "allow_pickle"}),
        },
        attributes={**attributes, **(config.model_attributes or {})},
    )


def described(handle: ModelHandle, config: PyTorchModelConfig) -> ModelHandle:
    """A model with the inputs that the script, or io_config, says."""
    handle = handle.with_(config={**handle.config, **_options(config)})
    config = PyTorchModelConfig.model_validate_json(json.dumps(handle.config))  # as it will be when it is opened
    io_config, call = _io_and_call(config, loaded_model(handle, config), handle.inputs)
    return handle.with_(
        config={**handle.config, "io_config": plain(io_config)},
        inputs=input_specs(io_config, call, handle.attributes),
    )


def composite(handle: ModelHandle, config: PyTorchModelConfig, components: Sequence[ComponentConfig]) -> ModelHandle:
    """A model of parts, each of which a function of the script takes out of it."""
    whole = plain(config.hugging_face, exclude={"model_name", "components"})
    part = handle.with_(files=(), config={**handle.config, "hf_config": whole})
    parts = {}
    for each in components:
        own = {name: getattr(each, name) for name in ("io_config", "component_func", "dummy_inputs_func")}
        try:
            parts[each.name] = described(part, config.model_copy(update=own))
        except PreconditionFailed as error:
            raise PreconditionFailed(f"{each.name}: {error.message}", hint=error.hint) from error
    return handle.with_(type=COMPOSITE, config={}, inputs=(), components=parts)


def _options(config: PyTorchModelConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", include={*ScriptOptions.model_fields})


def _io_and_call(
    config: PyTorchModelConfig, model: LoadedModel, derived: Sequence[TensorSpec]
) -> tuple[IoConfig, Call]:
    script = script_of(config)
    model.io_config = io_of(config.io_config, script, model)
    if model.io_config is not None:
        model.io_config = with_cache(model.io_config, derived)
    return call_of(model.io_config, config.dummy_inputs_func, script, model, derived)


def opened(handle: ModelHandle, config: PyTorchModelConfig, device: str, attention: str | None) -> Session:
    """Load a model that a script has a part in, called by the names of its io_config."""
    from transformers import PreTrainedModel

    from hfopt_hf_model_loader.generation import PAST, with_past
    from hfopt_hf_model_loader.session import TorchSession

    class Scripted(TorchSession):
        @cached_property
        def outputs(self) -> Sequence[TensorSpec]:
            """As io_config names their axes."""
            found = self.run(example)
            return [
                TensorSpec(name=name, dtype=each.dtype.name, axes=io_config.axes(name, each.shape))
                for name, each in found.items()
            ]

    model = loaded_model(handle, config, device, attention)
    io_config, call = _io_and_call(config, model, handle.inputs)
    module = own = model.load_model()
    if isinstance(module, PreTrainedModel) and any(name.startswith(f"{PAST}.") for name in call.options):
        module = with_past(module)
    module = named_module(module, call, io_config.output_names)
    example = {name: tensor.numpy() for name, tensor in call.example.items()}
    session = Scripted(module, handle.inputs, device, example)
    session.unwrapped = own
    return session


def script_of(config: PyTorchModelConfig) -> Script:
    file, folder = config.model_script, config.script_dir
    return Script(None if file is None else Path(file), None if folder is None else Path(folder))


def loaded_model(
    handle: ModelHandle, config: PyTorchModelConfig, device: str = "cpu", attention: str | None = None
) -> LoadedModel:
    """What functions get: the model, or the part of it that component_func takes out."""
    from hfopt_hf_model_loader.session import load

    script, path = script_of(config), handle.path
    own = config.hf_config and config.hf_config.model_copy(update={"model_name": str(path)})

    def load_whole() -> torch.nn.Module:
        if config.model_loader is None:
            return load(path, config, device, attention)
        given = config.model_path or config.hugging_face.model_name
        found = module_of(script.function(config.model_loader)(given), f"{script.file}: {config.model_loader}")
        _set_attention(found, attention)
        return found

    def part_of(whole: LoadedModel, name: str) -> torch.nn.Module:
        return module_of(script.function(name)(whole), f"{script.file}: {name}")

    about = {"model_path": None if path == script.file else str(path), "hf_config": own}
    whole = LoadedModel(load_whole, **about, model_attributes=handle.attributes)
    if config.component_func is None:
        return whole
    return replace(whole, load=partial(part_of, whole, config.component_func))


def _set_attention(module: torch.nn.Module, attention: str | None) -> None:
    from transformers import PreTrainedModel

    if attention is not None:
        for each in module.modules():
            if isinstance(each, PreTrainedModel):
                each.set_attn_implementation(attention)


def module_of(found: Any, what: str) -> torch.nn.Module:
    """What a function returned, if it is a module.

    :raises PreconditionFailed: it is something else
    """
    import torch

    if not isinstance(found, torch.nn.Module):
        raise PreconditionFailed(f"{what} must return a torch.nn.Module, and returned {_kind(found)}")
    return found.eval()


def plain(config: Config | None, **options: Any) -> dict[str, Any] | None:
    """As data of a handle."""
    return None if config is None else json.loads(config.model_dump_json(**options))


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

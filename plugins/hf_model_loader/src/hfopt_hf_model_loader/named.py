"""A module whose inputs and outputs have the names that an io_config gives them, however it is called.

Users' dummy inputs show how: a dict is given by keyword, a tuple by position; tensors may lie in lists and dicts
(``past_key_values``), and what is no tensor (``return_dict``) is a constant of the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Leaf:
    """Where in a call a named tensor is."""

    name: str


@dataclass(frozen=True)
class Pairs:
    """Keys and values of layers, which go into a call as a cache of transformers'."""

    layers: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Call:
    """How a module is called.

    :param arguments: by position, with a `Leaf` where a tensor goes
    :param options: by keyword
    :param example: tensors by name, in the order of the io_config
    """

    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    example: Mapping[str, torch.Tensor]

    @classmethod
    def like(cls, dummy: Any, names: Sequence[str]) -> Call:
        """As dummy inputs show it.

        :param names: of the inputs; a tensor that has another path gets the next of those left
        :raises PreconditionFailed: they are not as many as the tensors
        """
        import torch

        if isinstance(dummy, torch.Tensor):
            dummy = (dummy,)
        by_name = isinstance(dummy, Mapping)
        if not by_name and not isinstance(dummy, list | tuple):
            raise PreconditionFailed(f"dummy inputs are a dict, a tuple or a tensor, and these are {_kind(dummy)}")
        paths = [path for path, _ in tensors_in(dummy)]
        constants = {key for key, value in dummy.items() if not [*tensors_in(value)]} if by_name else set()
        named = [name for name in names if name not in constants]
        left = iter([name for name in named if not by_name or name not in paths])
        taken = {path: path if by_name and path in named else next(left, None) for path in paths}
        if unnamed := [path for path, name in taken.items() if name is None]:
            raise PreconditionFailed(f"the dummy inputs have {unnamed[0]!r}, which input_names of io_config lack")
        if lacking := [*left]:
            raise PreconditionFailed(f"the dummy inputs lack {lacking[0]!r}, which input_names of io_config have")
        example = {str(taken[path]): tensor for path, tensor in tensors_in(dummy)}
        places = _with_leaves(dummy, {path: str(name) for path, name in taken.items()})
        ordered = {name: example[name] for name in named}
        return cls((), places, ordered) if by_name else cls(tuple(places), {}, ordered)

    def filled(self, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the module is called with."""
        return tuple(_filled([*self.arguments], tensors)), _filled(dict(self.options), tensors)


def tensors_in(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in dicts, lists and caches of keys and values, by dotted path, in order."""
    import torch

    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        inner = iter(value.items())
    elif isinstance(value, list | tuple):
        inner = iter(enumerate(value))
    elif _is_cache(value):
        inner = iter(enumerate({"key": layer.keys, "value": layer.values} for layer in value.layers))
    for key, each in inner:
        yield from tensors_in(each, f"{path}.{key}" if path else str(key))


def named_outputs(found: Any, names: Sequence[str] | None) -> dict[str, torch.Tensor]:
    """What a module returned, by name: under that name if it returned every one so, else in order.

    :raises PreconditionFailed: there are fewer tensors than names
    """
    tensors = dict(tensors_in(found))
    if names is None:
        return {name or "output": tensor for name, tensor in tensors.items()}
    if not tensors.keys() >= set(names):
        if len(tensors) < len(names):
            raise PreconditionFailed(
                f"the model returns {len(tensors)} tensors, and io_config has {len(names)} output_names"
            )
        tensors = dict(zip(names, tensors.values(), strict=False))
    return {name: tensors[name] for name in names}


def named_module(module: torch.nn.Module, call: Call, outputs: Sequence[str] | None) -> torch.nn.Module:
    """The module, called by the names of its inputs; returns a dict of its outputs."""
    import torch
    from transformers import PreTrainedModel

    of_transformers = isinstance(module, PreTrainedModel)
    in_order = not _knows(module, call.options)

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            arguments, options = call.filled(tensors)
            if in_order:
                arguments, options = tuple(options.values()), {}
            past = options.get("past_key_values")
            if of_transformers and isinstance(past, list | tuple):  # which no longer takes pairs of tensors
                options["past_key_values"] = _filled(Pairs(tuple(map(_pair, past))), {})
            return named_outputs(self.model(*arguments, **options), outputs)

    return Named().eval()


def _knows(module: torch.nn.Module, names: Iterable[str]) -> bool:
    """Whether a module takes arguments by these names; else io_config has names of its own for them, in order."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return {each.name for each in module.forward.schema.arguments} >= set(names)
    taken = inspect.signature(module.forward).parameters
    return any(each.kind is each.VAR_KEYWORD for each in taken.values()) or taken.keys() >= set(names)


def _pair(layer: Any) -> tuple[Any, ...]:
    return tuple(layer.values() if isinstance(layer, Mapping) else layer)


def _is_cache(value: Any) -> bool:
    return hasattr(value, "layers") and all(hasattr(layer, "keys") for layer in value.layers)


def _with_leaves(value: Any, names: Mapping[str, str], path: str = "") -> Any:
    if path in names:
        return Leaf(names[path])
    if isinstance(value, Mapping):
        return {key: _with_leaves(each, names, f"{path}.{key}" if path else str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        inner = [
            _with_leaves(each, names, f"{path}.{place}" if path else str(place)) for place, each in enumerate(value)
        ]
        return _as(value, inner)
    if _is_cache(value):
        places = range(len(value.layers))
        return Pairs(tuple((Leaf(names[f"{path}.{each}.key"]), Leaf(names[f"{path}.{each}.value"])) for each in places))
    return value


def _filled(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, Leaf):
        return tensors[value.name]
    if isinstance(value, Pairs):
        from transformers import DynamicCache

        return DynamicCache(_filled(value.layers, tensors))
    if isinstance(value, Mapping):
        return {key: _filled(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return _as(value, [_filled(each, tensors) for each in value])
    return value


def _as(value: Any, items: list[Any]) -> Any:
    """The items as another list, tuple or namedtuple of its kind."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

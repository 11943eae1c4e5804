"""What a user's dataloader yields, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt.api.scripts import own_line
from hfopt_data_containers.batches import Made
from hfopt_data_containers.script import Script

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNENDING = 4
"""Batches that are taken of a loader that has neither a length nor an iterator: nothing tells where it ends."""


def made_by(loader: Any, what: str, script: Script | None = None) -> Iterator[Made]:
    """The batches of a dataloader: of PyTorch's, of onnxruntime's calibration, or any iterable of them.

    A batch is inputs and labels; or inputs alone, where they are a mapping or an array. Inputs without names are named
    by their position: "0", "1"...

    :param what: the function that returned it, for messages
    :param script: of which it is
    :raises PreconditionFailed: it yields something else, or fails, with the script's line
    """
    for number, item in enumerate(items_of(loader, what, script)):
        inputs, labels = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        if not isinstance(inputs, Mapping):
            several = inputs if isinstance(inputs, tuple | list) else [inputs]
            inputs = {str(position): each for position, each in enumerate(several)}
        place = f"{what}, batch {number}"
        feeds = {str(name): array_of(each, f"{place}: {name}") for name, each in inputs.items() if each is not None}
        yield Made(feeds, None if labels is None else _labels(labels, place))


def items_of(loader: Any, what: str, script: Script | None) -> Iterator[Any]:
    """What a dataloader or dataset yields; where it fails, the line of the script is told."""
    items = _items(loader, what)
    while script is not None:
        with own_line(script.file, "what a function returned fails", script.folder):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
    yield from items


def _items(loader: Any, what: str) -> Iterator[Any]:
    if hasattr(loader, "get_next"):
        return iter(loader.get_next, None)
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise PreconditionFailed(
            f"{what} must return a dataloader, and returned {kind_of(loader)}",
            hint="an iterable of (inputs, labels), or an onnxruntime CalibrationDataReader",
        )
    if hasattr(loader, "__len__"):
        return islice(iter(loader), len(loader))
    return iter(loader) if hasattr(loader, "__iter__") else islice(iter(loader), UNENDING)


def kind_of(value: object) -> str:
    """What somebody returned instead, for messages."""
    return "None" if value is None else f"a {type(value).__name__}"


def _labels(labels: Any, place: str) -> NDArray[Any]:
    import numpy as np

    return np.atleast_1d(array_of(labels, f"{place}: labels"))


def array_of(value: Any, place: str) -> NDArray[Any]:
    """A tensor, array, number or list of numbers or texts as an array; bfloat16 as float32.

    :param place: for messages
    :raises PreconditionFailed: it is none of these
    """
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).cpu().numpy()
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(hasattr(each, "detach") for each in value):
        value = [array_of(each, place) for each in value]
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind in "OV":
        raise PreconditionFailed(f"{place} is no array, but {kind_of(value)}", hint="of tensors or numbers")
    return array

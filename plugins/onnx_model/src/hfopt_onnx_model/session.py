"""An ONNX model, open in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Session, TensorSpec

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
}


class OrtSession(Session):
    """Runs feeds, after making them what the model takes: its names, its dtypes, what is missing filled in."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.inputs: Sequence[TensorSpec] = [_spec(value) for value in session.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_spec(value) for value in session.get_outputs()]
        self._names = [spec.name for spec in self.outputs]

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        return dict(zip(self._names, self._session.run(self._names, suited(feeds, self.inputs)), strict=True))

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        for name, array in suited(feeds, self.inputs).items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name in self._names:
            binding.bind_output(name)
        session = self._session
        return lambda: session.run_with_iobinding(binding)

    @property
    def live(self) -> Any:
        return self._session

    def close(self) -> None:
        del self._session


def suited(feeds: Feeds, specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Feeds as a model takes them: its inputs and no others, of its dtypes, what the data lack filled in.

    :raises PreconditionFailed: an input is lacking that can't be filled in
    """
    import numpy as np

    arrays = {spec.name: feeds[spec.name] if spec.name in feeds else _missing(spec, feeds) for spec in specs}
    return {spec.name: np.ascontiguousarray(arrays[spec.name], dtype=spec.dtype) for spec in specs}


def _missing(spec: TensorSpec, feeds: Feeds) -> NDArray[Any]:
    """What a text model takes when the data lack it: all tokens count, one segment, positions from 0."""
    import numpy as np

    ids = feeds.get("input_ids")
    if ids is not None and spec.name == "attention_mask":
        return np.ones_like(ids)
    if ids is not None and spec.name == "token_type_ids":
        return np.zeros_like(ids)
    if ids is not None and spec.name == "position_ids":
        return np.broadcast_to(np.arange(ids.shape[-1]), ids.shape)
    raise PreconditionFailed(f"the data have no {spec.name!r}, which the model takes; they have {', '.join(feeds)}")


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    axes = (
        axis if isinstance(axis, int) else axis or f"{value.name}_axis_{position}"
        for position, axis in enumerate(value.shape)
    )
    return TensorSpec(name=value.name, dtype=DTYPES.get(value.type, value.type), axes=tuple(axes))

"""An ONNX model, open in ONNX Runtime."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PluginError, PreconditionFailed, Session, TensorSpec
from hfopt_onnx_model.filling import missing, named
from hfopt_onnx_model.generating import following
from hfopt_onnx_model.providers import PROVIDERS, preload_cuda, why_missing
from hfopt_onnx_model.settings import InferenceSettings, session_options

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

DTYPES = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(uint8)": "uint8",
}
HOST = "cpu"


def open_session(
    path: Path, settings: InferenceSettings, providers: Mapping[str, Mapping[str, str]], threads: int | None
) -> OrtSession:
    """Open a model with these execution providers and no others, ONNX Runtime's CPU provider behind them excepted.

    :param providers: options by name, the first one first
    :param threads: within operators, unless the settings say
    :raises PluginError: ONNX Runtime is not installed, or its flavour lacks a provider; says what to install
    :raises PreconditionFailed: ONNX Runtime refuses the model or the settings, or falls back to another provider
    """
    for name in providers:
        if reason := why_missing(name):
            raise PluginError(reason)
    import onnxruntime

    first = PROVIDERS[next(iter(providers))]
    if first.memory == "cuda":
        preload_cuda()
    with refusing(f"ONNX Runtime refuses {path.name}"):
        session = onnxruntime.InferenceSession(
            str(path),
            session_options(settings, threads, profile=path.stem),
            providers=list(providers),
            provider_options=[dict(options) for options in providers.values()],
            enable_fallback=0,
        )
    check_no_fallback(list(providers), session.get_providers())
    if settings.tuning_op_result:
        with refusing("ONNX Runtime refuses the tuning results"):
            session.set_tuning_results([dict(result) for result in settings.tuning_op_result], error_on_invalid=True)
    device_id = int(next(iter(providers.values())).get("device_id", 0))
    return OrtSession(session, path, memory=first.memory, device_id=device_id, io_bind=bool(settings.io_bind))


def check_no_fallback(wanted: Sequence[str], got: Sequence[str]) -> None:
    """A session that runs on something else than what was asked for would be timed as what it is not.

    :raises PreconditionFailed: `got` does not begin with `wanted`
    """
    if list(got[: len(wanted)]) != list(wanted):
        lost = next(name for position, name in enumerate(wanted) if got[position : position + 1] != [name])
        raise PreconditionFailed(
            f"ONNX Runtime could not start {lost}, and fell back to {', '.join(got)}",
            hint="its driver or a library that it needs is missing; with ort_log_severity_level: 2 in engine, "
            "hfopt.log has ONNX Runtime's own messages",
        )


class OrtSession(Session):
    """Runs feeds, after making them what the model takes: its names, its dtypes, what is missing filled in.

    :param path: the file that is open
    :param memory: where data lie while the model is timed: ``cpu``, ``cuda``, ``dml``
    :param device_id: which of the devices of that kind
    :param io_bind: bind inputs and outputs in `run` too
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        path: Path,
        *,
        memory: str = HOST,
        device_id: int = 0,
        io_bind: bool = False,
    ) -> None:
        self._session = session
        self._path = path
        self._memory = memory
        self._device_id = device_id
        self.inputs: Sequence[TensorSpec] = [_spec(value) for value in session.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_spec(value) for value in session.get_outputs()]
        self._names = [spec.name for spec in self.outputs]
        self._bind_to_run = io_bind or any(spec.dtype == "bfloat16" for spec in self.outputs)

    @cached_property
    def rows_are_independent(self) -> bool:
        from hfopt_onnx_model.graph import outline
        from hfopt_onnx_model.precision import mixes_rows

        if any(isinstance(axis, int) for spec in self.inputs for axis in spec.axes[:1]):
            return False  # a fixed batch: rows can't be put together in any other way
        return not mixes_rows(outline(self._path))

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        with refusing("ONNX Runtime can't run the model"):
            if not self._bind_to_run:
                found = self._session.run(self._names, suited(feeds, self.inputs))
            else:
                binding = self._bound(feeds, outputs_in=HOST)
                self._session.run_with_iobinding(binding)
                binding.synchronize_outputs()
                found = [array(value) for value in binding.get_outputs()]
        return dict(zip(self._names, found, strict=True))

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        with refusing("ONNX Runtime can't take the data"):
            binding = self._bound(feeds, outputs_in=self._memory)
        session = self._session

        def call() -> None:
            try:
                session.run_with_iobinding(binding)
                binding.synchronize_outputs()
            except Exception as error:  # its types have no common base; `refusing` would be timed too
                raise PreconditionFailed(f"ONNX Runtime can't run the model: {reason(error)}") from error

        return call

    def bind_next(self, feeds: Feeds) -> Callable[[], None]:
        return self.bind(following(feeds, self.run(feeds)))

    def _bound(self, feeds: Feeds, outputs_in: str) -> onnxruntime.IOBinding:
        """Inputs copied to the device, and outputs that ONNX Runtime allocates where they are wanted."""
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        values = {
            name: OrtValue.ortvalue_from_numpy(array, self._memory, self._device_id)
            for name, array in suited(feeds, self.inputs).items()
        }
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._names:
            binding.bind_output(name, outputs_in, 0 if outputs_in == HOST else self._device_id)
        binding.synchronize_inputs()
        binding.held = values  # a value on the host is its array's memory, which older versions don't keep alive
        return binding

    @property
    def live(self) -> Any:
        return self._session

    def close(self) -> None:
        if self._session.get_session_options().enable_profiling and (file := self._session.end_profiling()):
            print(f"profile written to {file}", file=sys.stderr)
        del self._session


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """ONNX Runtime's exceptions as one of ours: it raises a dozen types without a common base."""
    try:
        yield
    except PreconditionFailed:
        raise
    except Exception as error:  # ONNX Runtime raises a dozen types without a common base
        raise PreconditionFailed(f"{what}: {reason(error)}") from error


NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Error in execution: |Non-zero status code returned while |"
    r"Load model from .* failed: ?|Status Message: |\S*/onnxruntime/core/\S+:\d+ \w.*?\)(?: \[with [^\]]*\])? |"
    r"\b\w+\.cc:\d+ \w+ (?!was\b)"
)
"""Codes, folders of caches, and places in C++."""


def reason(error: Exception) -> str:
    """What ONNX Runtime says, without its codes; its first two lines, as one."""
    said = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
    return NOISE.sub("", said) or type(error).__name__


def suited(feeds: Feeds, specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Feeds as a model takes them: its inputs and no others, of its dtypes, what the data lack filled in.

    :raises PreconditionFailed: an input is lacking that can't be filled in, or is not of the model's fixed shape
    """
    import numpy as np

    feeds = named(feeds, specs)
    arrays = {spec.name: feeds[spec.name] if spec.name in feeds else missing(spec, feeds) for spec in specs}
    for spec in specs:
        _check_shape(spec, arrays[spec.name].shape)
    return {spec.name: np.ascontiguousarray(arrays[spec.name], dtype=spec.dtype) for spec in specs}


def _check_shape(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """ONNX Runtime's own message has neither the full shapes nor any advice."""
    pairs = list(zip(spec.axes, shape, strict=False))
    if not any(isinstance(axis, int) and axis != size for axis, size in pairs):
        return
    taken = ", ".join(str(axis) for axis in spec.axes)
    raise PreconditionFailed(
        f"the model takes {spec.name} of the shape [{taken}], and the data have {list(shape)}",
        hint="set batch_size, max_length and padding (to max_length) of the data to match, or keep the axes dynamic",
    )


def array(value: onnxruntime.OrtValue) -> NDArray[Any]:
    """A value on the host as an array. ONNX Runtime has none for bfloat16, which is the upper half of a float32."""
    import ctypes

    import numpy as np

    if value.data_type() != "tensor(bfloat16)":
        plain: NDArray[Any] = value.numpy()
        return plain
    shape = value.shape()
    bits = (ctypes.c_uint16 * int(np.prod(shape))).from_address(value.data_ptr())
    return (np.ctypeslib.as_array(bits).astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    axes = (
        axis if isinstance(axis, int) else axis or f"{value.name}_axis_{position}"
        for position, axis in enumerate(value.shape)
    )
    return TensorSpec(name=value.name, dtype=DTYPES.get(value.type, value.type), axes=tuple(axes))

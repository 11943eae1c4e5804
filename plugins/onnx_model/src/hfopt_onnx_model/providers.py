"""Execution providers: on which devices they run, where they take data from, what installs them.

Light: read while validating. ONNX Runtime is asked inside functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from hfopt import Accelerator
from hfopt.api.config import UnknownName
from hfopt.api.text import did_you_mean

INSTALL = "pip install './plugins/onnx_model[{}]'"


@dataclass(frozen=True)
class Provider:
    """What hfopt knows of an execution provider.

    :param devices: what it runs on, as accelerators name it
    :param extra: of hfopt-onnx-model, that installs a flavour of ONNX Runtime with it; None: there is none
    :param memory: where inputs and outputs lie while a model is timed, as ONNX Runtime names it
    :param library: the file that ONNX Runtime loads when a session first asks for it; None: it is built in
    :param tunable: whether it has operators with tuning results
    """

    devices: tuple[str, ...]
    extra: str | None = None
    memory: str = "cpu"
    library: str | None = None
    tunable: bool = False


PROVIDERS: Mapping[str, Provider] = {
    "CPUExecutionProvider": Provider(("cpu",), "cpu"),
    "CUDAExecutionProvider": Provider(("gpu",), "gpu", "cuda", "cuda", tunable=True),
    "TensorrtExecutionProvider": Provider(("gpu",), "gpu", "cuda", "tensorrt"),
    "OpenVINOExecutionProvider": Provider(("cpu", "gpu", "npu"), "openvino", library="openvino"),
    "DmlExecutionProvider": Provider(("gpu",), "directml", "dml"),
    "ROCMExecutionProvider": Provider(("gpu",), library="rocm", tunable=True),
    "MIGraphXExecutionProvider": Provider(("gpu",), library="migraphx"),
    "WebGpuExecutionProvider": Provider(("gpu",)),
    "JsExecutionProvider": Provider(("gpu",)),
    "WebNNExecutionProvider": Provider(("cpu", "gpu", "npu")),
    "NvTensorRTRTXExecutionProvider": Provider(("gpu",)),
    "QNNExecutionProvider": Provider(("npu", "gpu", "cpu")),
    "VitisAIExecutionProvider": Provider(("npu",), library="vitisai"),
    "CANNExecutionProvider": Provider(("npu",)),
    "CoreMLExecutionProvider": Provider(("cpu", "gpu", "npu")),
    "NnapiExecutionProvider": Provider(("npu", "gpu", "cpu")),
    "VSINPUExecutionProvider": Provider(("npu",)),
    "RknpuExecutionProvider": Provider(("npu",)),
    "DnnlExecutionProvider": Provider(("cpu",), library="dnnl"),
    "XnnpackExecutionProvider": Provider(("cpu",)),
    "AzureExecutionProvider": Provider(("cpu",)),
}
"""Those that ONNX Runtime can be built with. Memory other than the host's is stated where ONNX Runtime documents it."""


def _known(name: str) -> str:
    if name not in PROVIDERS:
        raise UnknownName("execution provider", name, sorted(PROVIDERS))
    return name


ProviderName = Annotated[str, AfterValidator(_known)]
"""The name of an execution provider, as ONNX Runtime has it."""


def why_unavailable(accelerator: Accelerator) -> str | None:
    """Why ONNX models can't run on an accelerator, in one sentence; None if they can."""
    name, device = accelerator.execution_provider, accelerator.device
    if name in PROVIDERS and device not in PROVIDERS[name].devices:
        return f"{name} runs on {' or '.join(PROVIDERS[name].devices)}, not on {device}"
    return why_missing(name)


def why_missing(name: str) -> str | None:
    """Why the installed ONNX Runtime can't use an execution provider, and what to install; None if it can."""
    if name not in PROVIDERS:
        return ": ".join(filter(None, (f"{name} is not an execution provider", did_you_mean(name, PROVIDERS))))
    provider = PROVIDERS[name]
    install = f": {INSTALL.format(provider.extra)}" if provider.extra else ""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return f"ONNX Runtime is not installed{install or ': ' + INSTALL.format('cpu')}"
    except ImportError as error:  # it is, and the system does not load it: for want of memory, of a library
        return f"ONNX Runtime can't be loaded: {error}"
    available = onnxruntime.get_available_providers()
    if name not in available:
        instead = f"{install} (uninstall the other flavour first)" if install else f"; it has {', '.join(available)}"
        return f"this ONNX Runtime has no {name}{instead}"
    return why_not_loaded(name, Path(onnxruntime.__file__).parent / "capi")


def why_not_loaded(name: str, folder: Path) -> str | None:
    """Why the library of an execution provider can't be loaded, in the system's words; None if it can, or is built in.

    ONNX Runtime itself only logs this, and goes on with another provider.

    :param folder: where ONNX Runtime's libraries lie
    """
    provider = PROVIDERS[name]
    if provider.library is None:
        return None
    library = folder / f"libonnxruntime_providers_{provider.library}.so"
    if not library.exists():
        return None
    if provider.memory == "cuda":
        preload_cuda()
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"the library of {name} can't be loaded: {error}"
    return None


def preload_cuda() -> None:
    """Load CUDA's libraries from NVIDIA's Python packages, where ONNX Runtime does not look by itself.

    Does nothing in a flavour of ONNX Runtime without CUDA.
    """
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        onnxruntime.preload_dlls()

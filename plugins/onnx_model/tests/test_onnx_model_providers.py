"""Which accelerators ONNX models run on here, and the sentences about the others."""

from __future__ import annotations

import sys

import onnxruntime
import pytest

from hfopt import Accelerator, ModelHandle, PluginError, PreconditionFailed
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig
from hfopt_onnx_model.providers import PROVIDERS, why_not_loaded
from hfopt_onnx_model.session import check_no_fallback

CUDA = "CUDAExecutionProvider"


def unavailable(device, provider):
    return ONNXModel.unavailable(Accelerator(device=device, execution_provider=provider))


def test_every_provider_that_onnx_runtime_knows_is_in_the_table():
    assert set(onnxruntime.get_all_providers()) <= set(PROVIDERS)


def test_the_cpu_is_available():
    assert unavailable("cpu", "CPUExecutionProvider") is None


def test_a_flavour_that_lacks_a_provider_names_what_installs_it():
    assert unavailable("gpu", CUDA) == (
        f"this ONNX Runtime has no {CUDA}: pip install './plugins/onnx_model[gpu]' (uninstall the other flavour first)"
    )
    assert "'./plugins/onnx_model[openvino]'" in unavailable("cpu", "OpenVINOExecutionProvider")
    assert "'./plugins/onnx_model[directml]'" in unavailable("gpu", "DmlExecutionProvider")
    assert unavailable("npu", "QNNExecutionProvider").startswith(
        "this ONNX Runtime has no QNNExecutionProvider; it has "
    )


def test_a_device_that_the_provider_does_not_run_on_is_no_accelerator():
    assert unavailable("gpu", "CPUExecutionProvider") == "CPUExecutionProvider runs on cpu, not on gpu"
    assert unavailable("vpu", "OpenVINOExecutionProvider") == (
        "OpenVINOExecutionProvider runs on cpu or gpu or npu, not on vpu"
    )


def test_a_misspelt_provider_gets_a_near_miss():
    assert (
        unavailable("gpu", "CudaExecutionProvdr")
        == f"CudaExecutionProvdr is not an execution provider: did you mean '{CUDA}'?"
    )


def test_without_onnx_runtime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    assert unavailable("cpu", "CPUExecutionProvider") == (
        "ONNX Runtime is not installed: pip install './plugins/onnx_model[cpu]'"
    )
    assert "'./plugins/onnx_model[gpu]'" in unavailable("gpu", CUDA)
    assert "'./plugins/onnx_model[cpu]'" in unavailable("npu", "QNNExecutionProvider")


def test_opening_a_model_on_a_provider_that_is_not_there_is_an_error_not_a_fallback(tmp_path):
    handle = ModelHandle(type="ONNXModel", path=tmp_path / "model.onnx", files=())

    with pytest.raises(PluginError, match=rf"this ONNX Runtime has no {CUDA}: pip install"):
        ONNXModel(ONNXModelConfig()).open(handle, Accelerator(device="gpu", execution_provider=CUDA), {})


def test_a_library_that_can_not_be_loaded_is_unavailable_for_the_systems_reason(tmp_path):
    assert why_not_loaded(CUDA, tmp_path) is None
    (tmp_path / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")

    reason = why_not_loaded(CUDA, tmp_path)

    assert reason.startswith(f"the library of {CUDA} can't be loaded: ")
    assert reason.endswith("file too short")


def test_another_provider_than_the_one_asked_for_is_an_error():
    check_no_fallback([CUDA], [CUDA, "CPUExecutionProvider"])
    with pytest.raises(PreconditionFailed) as fallen:
        check_no_fallback(["TensorrtExecutionProvider", CUDA], [CUDA, "CPUExecutionProvider"])
    assert fallen.value.message == (
        f"ONNX Runtime could not start TensorrtExecutionProvider, and fell back to {CUDA}, CPUExecutionProvider"
    )

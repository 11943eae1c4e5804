"""External data, and models that count as too large for one file, through fusion and quantization."""

from __future__ import annotations

import tempfile

import numpy as np
import onnx
import pytest

from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import handle_of, load, save
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.quantization import OnnxDynamicQuantization, OnnxQuantization, OnnxStaticQuantization

WORK = {
    "fusion": (OrtTransformersOptimization, {}),
    "fusion after ONNX Runtime": (OrtTransformersOptimization, {"opt_level": 1}),
    "half": (OrtTransformersOptimization, {"float16": True}),
    "dynamic": (OnnxDynamicQuantization, {}),
    "dynamic as it is": (OnnxDynamicQuantization, {"quant_preprocess": False}),
    "static": (OnnxStaticQuantization, {"data_config": "rows"}),
    "static as it is": (OnnxStaticQuantization, {"data_config": "rows", "quant_preprocess": False}),
    "static by histograms": (OnnxStaticQuantization, {"data_config": "rows", "calibrate_method": "Percentile"}),
}


@pytest.fixture
def large(converted, tmp_path):
    """The model with its weights beside it."""
    folder = tmp_path / "large"
    folder.mkdir()
    save(load(converted.path), folder / "model.onnx", ExternalDataConfig(save_as_external_data=True))
    return handle_of(folder / "model.onnx", like=converted)


@pytest.mark.parametrize("name", WORK)
def test_a_large_model_becomes_what_a_small_one_does_and_nothing_else_is_left(
    name, converted, large, context, logits, monkeypatch, tmp_path
):
    """Large: every model counts as too large for one file, and there is no room for temporary files elsewhere."""
    work, options = WORK[name]
    expected = logits(work(work.Config(**options)).run(converted, context).model)
    monkeypatch.setattr("hfopt_onnx_model.graph.EXTERNAL_THRESHOLD", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    before = {path.name: path.read_bytes() for path in large.path.parent.iterdir()}

    result = work(work.Config(**options)).run(large, context)

    assert sorted(path.name for path in context.folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert {path.name: path.read_bytes() for path in large.path.parent.iterdir()} == before
    assert tempfile.tempdir == str(tmp_path / "full")
    np.testing.assert_array_equal(logits(result.model), expected)


@pytest.mark.parametrize("work", [OrtTransformersOptimization, OnnxQuantization])
def test_options_of_external_data_are_obeyed(work, converted, context):
    options = {"save_as_external_data": True, "external_data_name": "weights.bin", "size_threshold": 10_000}

    result = work(work.Config(**options)).run(converted, context)

    assert sorted(path.name for path in context.folder.iterdir()) == ["model.onnx", "weights.bin"]
    assert [path.name for path in result.model.files] == ["model.onnx", "weights.bin"]
    tensors = onnx.load(str(result.model.path), load_external_data=False).graph.initializer
    sizes = {bool(tensor.external_data): [] for tensor in tensors}
    for tensor in tensors:
        sizes[bool(tensor.external_data)].append(np.prod(tensor.dims) * (4 if tensor.data_type == 1 else 1))
    assert min(sizes[True]) >= 10_000 > max(sizes[False])


@pytest.mark.parametrize("work", [OrtTransformersOptimization, OnnxQuantization])
def test_each_tensor_can_have_a_file_of_its_own(work, converted, context):
    options = {"save_as_external_data": True, "all_tensors_to_one_file": False}

    result = work(work.Config(**options)).run(converted, context)

    assert len(result.model.files) > 10
    assert {path.parent for path in result.model.files} == {context.folder}


@pytest.mark.parametrize("work", [OrtTransformersOptimization, OnnxQuantization])
def test_the_same_model_gives_the_same_bytes(work, converted, context):
    made = []
    for _ in range(2):
        work(work.Config()).run(converted, context)
        made.append((context.folder / "model.onnx").read_bytes())

    assert made[0] == made[1]

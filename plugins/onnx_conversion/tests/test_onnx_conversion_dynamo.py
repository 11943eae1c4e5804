"""The second exporter: it captures with torch.export, and yields the same model with the same names."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from hfopt import Accelerator, ModelHandle, PassContext, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.api.parity import Parity
from hfopt.testing import run_compared
from hfopt_hf_model_loader.session import TorchSession
from hfopt_onnx_conversion import dynamo
from hfopt_onnx_conversion.conversion import OnnxConversion, OnnxConversionConfig
from hfopt_onnx_conversion.tracing import output_specs
from hfopt_onnx_model import graph
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

COMPARED = Parity()


def convert(source, folder, parity=COMPARED, **options):
    handle = ModelHandle(type="PyTorchModel", path=folder, files=(), inputs=source.inputs)

    def open_any(model, settings):
        if model.type == "PyTorchModel":
            return TorchSession(copy.deepcopy(source.live), source.inputs)
        return ONNXModel(ONNXModelConfig()).open(model, Accelerator(), {})

    context = PassContext(folder, Accelerator(), 1, 0, {}, open_any, None, lambda *_: None)
    result = run_compared(OnnxConversion(OnnxConversionConfig(**options)), handle, context, parity)
    return result.model, dict(result.report)


def opset(path):
    return {entry.domain: entry.version for entry in onnx.load(str(path)).opset_import}[""]


@pytest.fixture(scope="module")
def captured(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captured")
    before = set(os.listdir())
    made = convert(bert, folder, use_dynamo_exporter=True)
    assert set(os.listdir()) == before
    return made


def test_it_computes_what_torch_computes_at_shapes_it_was_not_captured_with(bert, captured):
    handle, report = captured

    assert (report["exporter"], report["failed"], report["parity"]["agree"]) == ("dynamo", {}, True)
    with ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {}) as session:
        for batch, length in ((1, 1), (1, 9), (5, 3)):
            sizes = {"batch_size": batch, "sequence_length": length}
            feeds = example_feeds(bert.inputs, sizes, padded=True, seed=batch)
            np.testing.assert_allclose(session.run(feeds)["logits"], bert.run(feeds)["logits"], atol=1e-5)


def test_names_axes_and_opset_are_those_of_the_first_exporter(captured):
    handle, _ = captured

    assert [spec.name for spec in handle.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {spec.axes for spec in handle.inputs} == {("batch_size", "sequence_length")}
    assert [(spec.name, spec.axes) for spec in handle.outputs] == [("logits", ("batch_size", 2))]
    assert opset(handle.path) == 18


PROGRAM = """
import runpy, sys
from pathlib import Path
from hfopt_onnx_conversion.export import export
bert = runpy.run_path(sys.argv[1])["make_bert"]()
for exporter in ("torchscript", "dynamo"):
    export(bert, bert.inputs, Path(exporter + ".onnx"), exporters=(exporter,))
"""


def test_another_process_exports_the_same_bytes_which_name_no_file_of_this_machine(captured, converted, tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).with_name("conftest.py"))]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True, capture_output=True)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["dynamo.onnx", "torchscript.onnx"]
    for name, here in (("dynamo", captured[0].path), ("torchscript", converted.path)):
        made = (tmp_path / f"{name}.onnx").read_bytes()
        assert made == here.read_bytes()
        assert not [place for place in (b"site-packages", b"/plugins/", b"stack_trace") if place in made]


class Doubling(torch.nn.Module):
    def forward(self, input_ids):
        return {"doubled": input_ids * 2}


def test_an_opset_that_torchscript_lacks_is_written_by_the_other_exporter(bert, tmp_path):
    handle, report = convert(TorchSession(Doubling(), bert.inputs[:1]), tmp_path, target_opset=21)

    assert (report["exporter"], report["failed"]) == ("dynamo", {})
    assert opset(handle.path) == 21


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dynamo_exporter": False, "target_opset": 21}, "TorchScript writes opsets 13 to 20"),
        (
            {"use_dynamo_exporter": True, "target_opset": 17},
            "the dynamo exporter writes opsets 18 to 25",
        ),
        ({"target_opset": 26}, "less than or equal to 25"),
        ({"target_opset": 12}, "greater than or equal to 13"),
    ],
)
def test_an_opset_that_the_chosen_exporter_can_not_write_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        OnnxConversionConfig(**options)


def test_without_transformers_exporters_torch_alone_captures_the_same_names(bert, tmp_path):
    specs = output_specs(bert, bert.inputs)
    feeds = example_feeds(bert.inputs, {"batch_size": 2, "sequence_length": 16}, padded=True)
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}

    captured = dynamo._with_torch(bert.live, tensors, bert.inputs, specs, 18)
    dynamo.name_axes(captured, bert.inputs)

    assert [[str(axis) for axis in value.shape] for value in captured.graph.inputs] == [
        ["batch_size", "sequence_length"]
    ] * 3
    assert [value.name for value in captured.graph.outputs] == ["logits"]


def test_without_transformers_exporters_a_failure_is_what_the_model_met():
    class Unexportable(torch.nn.Module):
        def forward(self, input_ids):
            raise TypeError("this model can not be exported")

    specs = [TensorSpec(name="input_ids", dtype="int64", axes=("batch_size",))]

    with pytest.raises(TypeError, match="this model can not be exported"):
        dynamo._with_torch(Unexportable().eval(), {"input_ids": torch.ones(2, dtype=torch.int64)}, specs, specs, 18)


def test_weights_go_beside_the_file_when_asked_and_their_names_do_not_change(bert, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        handle, _ = convert(
            bert,
            tmp_path / name,
            save_as_external_data=True,
            all_tensors_to_one_file=False,
            size_threshold=0,
            parity=None,
        )
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))

    assert len(one) > 10
    assert [(file.name, file.read_bytes()) for file in one] == [(file.name, file.read_bytes()) for file in two]
    assert len(handle.files) == len(two)


def test_a_model_above_the_threshold_is_written_with_external_data(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "EXTERNAL_THRESHOLD", 1_000)

    handle, report = convert(bert, tmp_path, external_data_name="weights.bin")

    assert [file.name for file in handle.files] == ["model.onnx", "weights.bin"]
    assert report["parity"]["agree"]


def test_what_was_exported_is_clean(captured):
    model = onnx.load(str(captured[0].path))
    before = model.SerializeToString(deterministic=True)

    graph.clean(model)

    assert model.SerializeToString(deterministic=True) == before

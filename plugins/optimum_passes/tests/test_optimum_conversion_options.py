"""What a config may say of OptimumConversion, and what is told where it can't run."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch
from packaging.requirements import Requirement

from hfopt import ModelHandle, PluginError, PreconditionFailed
from hfopt.testing import validate
from hfopt_optimum_passes.conversion import ENVIRONMENT, OptimumConversion, OptimumConversionConfig
from hfopt_optimum_passes.export import export


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({"target_opset": 12}, "target_opset", "must be at least 13"),
        ({"target_opset": 21}, "target_opset", "must be at most 20"),
        ({"device": "tpu"}, "device", "must be 'cpu' or 'cuda'"),
        ({"components": ["a/b"]}, "components.0", "must be a plain name"),
        (
            {"extra_args": {"legacy": True}},
            "extra_args.legacy",
            "optimum-onnx makes one graph of a decoder: for decoder_model and decoder_with_past_model, take "
            "OnnxConversion, and as input an OptimumModel that names them",
        ),
        (
            {"extra_args": {"optimize": "O2"}},
            "extra_args.optimize",
            "put OrtTransformersOptimization after this pass: it fuses, and what it makes is compared by itself",
        ),
        ({"extra_args": {"revision": "main"}}, "extra_args.revision", "unknown key"),
        ({"extra_args": {"sequence_length": 0}}, "extra_args.sequence_length", "must be at least 1"),
    ],
)
def test_what_optimum_does_not_do_here_is_refused(options, place, message):
    problems = []

    validate(OptimumConversionConfig, options, (), problems)

    assert [".".join(map(str, each.path)) for each in problems] == [place]
    assert problems[0].message.startswith(message)


def test_what_changes_nothing_is_a_notice():
    options = {"device": "cuda", "extra_args": {"do_validation": False, "atol": 1e-3}}

    assert validate(OptimumConversionConfig, options, (), []).ignored() == {
        "device": "the model is exported on the CPU, in float16 too",
        "extra_args.do_validation": "hfopt compares the outputs of the two models itself: see parity",
        "extra_args.atol": "hfopt compares the outputs of the two models itself: see parity",
    }


def test_components_may_be_written_as_files():
    config = validate(OptimumConversionConfig, {"components": ["encoder_model.onnx", "decoder_model"]}, (), [])

    assert config.components == ("encoder_model", "decoder_model")


def test_half_precision_halves_what_is_forecast():
    weights = {"matrix": (100, 32.0)}

    assert OptimumConversion(OptimumConversionConfig()).forecast(weights) == weights
    assert OptimumConversion(OptimumConversionConfig(fp16=True)).forecast(weights) == {"matrix": (100, 16)}


def test_parts_that_are_onnx_already_are_refused(tmp_path):
    part = ModelHandle(type="ONNXModel", path=tmp_path, files=())
    parts = ModelHandle(type="CompositeModel", path=tmp_path, files=(), components={"encoder_model": part})

    with pytest.raises(PreconditionFailed, match="got a CompositeModel of encoder_model") as refused:
        OptimumConversion(OptimumConversionConfig()).requires(parts)

    assert refused.value.hint == "let it be the first pass"


def test_where_there_is_no_optimum_it_is_told_how_to_get_there(tmp_path):
    handle = ModelHandle(type="PyTorchModel", path=tmp_path, files=())

    with pytest.raises(PluginError, match=r"optimum-onnx can't be imported here: No module named 'optimum") as refused:
        export(torch.nn.Linear(1, 1), handle, OptimumConversionConfig(), tmp_path)

    assert refused.value.hint.startswith("leave out host and --in-process, then hfopt makes an environment")


def test_its_environment_is_what_the_distribution_has_as_an_extra():
    lines = [Requirement(line) for line in metadata.requires("hfopt-optimum-passes")]
    extra = {(each.name, each.specifier) for each in lines if "environment" in str(each.marker)}

    assert extra == {(each.name, each.specifier) for each in map(Requirement, ENVIRONMENT)}
    assert OptimumConversion.host["config"] == {"managed": True, "requirements": list(ENVIRONMENT)}

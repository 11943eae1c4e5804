"""What only one token needs is computed for that token alone, and stays what it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.transformers.onnx_model import OnnxModel

from hfopt.api.example import example_feeds
from hfopt_onnx_model.graph import load
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import OrtTransformersOptimizationConfig
from hfopt_ort_passes.one_token import narrow

ROW = "float[b, 4] y"
HEADER = '<ir_version: 9, opset_import: ["" : 17, "com.microsoft" : 1]>'
BLOCK = """
    product = MatMul (x, w)
    biased = Add (product, bias)
    sum = Add (biased, x)
    states = LayerNormalization (sum, bias, bias)
"""
"""A layer without attention, of [batch, tokens, width]."""


def model_of(body, outputs=ROW, *, inputs="float[b, s, 4] x"):
    """A graph with random weights."""
    model = onnx.parser.parse_model(f"{HEADER} g ({inputs}) => ({outputs}) {{ {body} }}")
    random = np.random.default_rng(0)
    weights = {"w": (4, 4), "bias": (4,), "whole": (1, 6, 4)}
    for name, shape in weights.items():
        array = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for name, index in {"first": 0, "second": 1, "last": -1}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(index), name))
    return model


def outputs_of(model, **feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def narrowed(model):
    """A copy that was narrowed, in topological order, and of how many products."""
    copy = OnnxModel(onnx.ModelProto())
    copy.model.CopyFrom(model)
    count = narrow(copy.model)
    copy.topological_sort()
    onnx.checker.check_model(copy.model)
    return copy.model, count


X = np.random.default_rng(1).normal(size=(2, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("token", ["first", "last"])
@pytest.mark.parametrize(
    "read", ["states", "gelu = com.microsoft.Gelu (states) z = Add (whole, gelu)", "z = Mul (states, x)"]
)
def test_a_layer_is_computed_for_the_token_that_is_read(token, read):
    state = "states" if read == "states" else "z"
    more = "" if read == "states" else read
    model = model_of(f"{BLOCK} {more} y = Gather <axis = 1> ({state}, {token})")

    smaller, count = narrowed(model)

    assert count == 1
    np.testing.assert_array_equal(outputs_of(smaller, x=X), outputs_of(model, x=X))
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(smaller).graph.value_info}
    assert shapes["product"].type.tensor_type.shape.dim[1].dim_value == 1


def test_two_tokens_that_are_read_are_taken_where_their_ways_part():
    ways = "".join(
        f"p{token} = MatMul (states, w) q{token} = Add (p{token}, bias) "
        f"z{token} = Gather <axis = 1> (q{token}, {token}) "
        for token in ("first", "last")
    )
    model = model_of(f"{BLOCK} {ways} y = Add (zfirst, zlast)")

    smaller, count = narrowed(model)

    assert count == 2, "the layer before is for all tokens, as two are read"
    np.testing.assert_array_equal(outputs_of(smaller, x=X), outputs_of(model, x=X))


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param(f"{BLOCK} y = Gather <axis = 1> (states, first)", f"{ROW}, float[b, s, 4] states",
                     id="all are an output"),
        pytest.param(f"{BLOCK} a = Gather <axis = 1> (states, first) b = Gather <axis = 1> (states, last) "
                     "y = Add (a, b)", ROW, id="two are read"),
        pytest.param(f"{BLOCK} y = Gather <axis = 1> (states, second)", ROW, id="neither first nor last"),
        pytest.param(f"{BLOCK} y = Gather <axis = 2> (states, first)", "float[b, s] y", id="a channel is read"),
        pytest.param(f"{BLOCK} m = Softmax <axis = 1> (states) y = Gather <axis = 1> (m, first)", ROW,
                     id="tokens are mixed"),
        pytest.param("y0 = LayerNormalization (x, bias, bias) y = Gather <axis = 1> (y0, first)", ROW,
                     id="no product is saved"),
        pytest.param("turned = Transpose <perm = [0, 2, 1]> (x) p = MatMul (x, turned) "
                     "y = Gather <axis = 1> (p, first)", "float[b, s] y", id="the product is of activations"),
    ],
)  # fmt: skip
def test_what_needs_more_than_one_token_is_left_as_it_is(body, outputs):
    model = model_of(body, outputs)

    same, count = narrowed(model)

    assert count == 0
    assert same.graph.node == model.graph.node


def test_an_operand_without_the_batch_is_not_taken_for_tokens():
    """[tokens, width] has its tokens at another axis."""
    body = "p = MatMul (x, w) sum = Add (p, places) y = Gather <axis = 1> (sum, first)"
    model = model_of(body, inputs="float[b, s, 4] x, float[s, 4] places")

    assert narrowed(model)[1] == 0


@pytest.mark.parametrize("fused", [True, False])
def test_a_classifiers_last_layer_is_narrowed_behind_its_attention_alone(converted, context, fused):
    options = {} if fused else {"optimization_options": {"enable_attention": False, "enable_skip_layer_norm": False}}
    results = {}
    for value in (True, False):
        config = OrtTransformersOptimizationConfig(narrow_to_one_token=value, **options)
        results[value] = OrtTransformersOptimization(config).run(converted, context)
        results[value] = (load(results[value].model.path), results[value].report)
    feeds = example_feeds(converted.inputs, {"batch_size": 3, "sequence_length": 9}, seed=4)

    (logits,), (expected,) = (outputs_of(model, **feeds) for model, _ in (results[True], results[False]))

    assert results[True][1]["narrowed"] == 3, "behind attention: its output, and the two of the feed-forward block"
    assert "narrowed" not in results[False][1]
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_a_classifier_of_images_is_narrowed_through_residuals_that_are_not_normalized(context, tmp_path):
    import torch
    import transformers

    from hfopt import ModelHandle, TensorSpec
    from hfopt_onnx_conversion.export import quiet
    from hfopt_onnx_model.graph import handle_of

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes)
    config._attn_implementation = "eager"
    model = transformers.ViTForImageClassification(config).eval()
    pixels, path = torch.randn(2, 3, 32, 32), tmp_path / "vit.onnx"
    with quiet(), torch.no_grad():
        expected = model(pixels).logits.numpy()
        axes = {"pixel_values": {0: "batch_size"}}
        torch.onnx.export(
            model, (pixels,), str(path), dynamo=False, opset_version=17, input_names=["pixel_values"], dynamic_axes=axes
        )
    spec = TensorSpec(name="pixel_values", dtype="float32", axes=("batch_size", 3, 32, 32))
    like = ModelHandle(type="PyTorchModel", path=path, files=(), inputs=(spec,), attributes=config.to_dict())

    result = OrtTransformersOptimization(OrtTransformersOptimizationConfig()).run(handle_of(path, like=like), context)

    assert result.report["narrowed"] == 3
    np.testing.assert_allclose(outputs_of(load(result.model.path), pixel_values=pixels.numpy())[0], expected, atol=1e-5)

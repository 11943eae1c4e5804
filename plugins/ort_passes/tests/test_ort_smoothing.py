"""OrtSmoothQuant against NumPy: the same outputs, the scales of the paper in their places, and less lost to 8 bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Batch, Dataset, ModelHandle, PreconditionFailed, TensorSpec
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes.fusion import OrtTransformersOptimization, OrtTransformersOptimizationConfig
from hfopt_ort_passes.quantization import OnnxDynamicQuantization
from hfopt_ort_passes.quantization_options import OnnxDynamicQuantizationConfig
from hfopt_ort_passes.smoothing import OrtSmoothQuant, OrtSmoothQuantConfig

WIDTH, INNER = 32, 48


class Vectors(Dataset):
    """Random rows, a batch each, with two channels that are a hundred times larger if `outliers`."""

    def __init__(self, count=16, *, outliers=False):
        self.rows = np.random.default_rng(1).normal(size=(count, 1, WIDTH)).astype(np.float32)
        if outliers:
            self.rows[..., :2] *= 100

    def __len__(self):
        return len(self.rows)

    def batches(self, rows=None, *, size=None):
        for row in range(len(self)) if rows is None else rows:
            yield Batch(np.array([row]), {"x": self.rows[row]}, None)

    def post_process(self, outputs):
        return outputs["y"]


@pytest.fixture
def build(tmp_path):
    """A model of ONNX text, with random weights of the shapes that are named."""

    def run(text, opset=17, spare=(), **shapes) -> ModelHandle:
        draw = np.random.default_rng(0)
        graph = onnx.parser.parse_graph(f"g (float[n, {WIDTH}] x) => (float[n, m] y) {{ {text} }}")
        for number, node in enumerate(graph.node):
            node.name = f"{node.op_type}_{number}"
        weights = {name: draw.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()}
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
        for name in spare:
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        path = tmp_path / "source.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        spec = TensorSpec(name="x", dtype="float32", axes=("batch_size", WIDTH))
        return handle_of(path, like=ModelHandle(type="PyTorchModel", path=path, files=(), inputs=(spec,)))

    return run


@pytest.fixture
def smooth(context):
    def run(model, data=None, **options):
        around = dataclasses.replace(context, data={"rows": Vectors() if data is None else data})
        return OrtSmoothQuant(OrtSmoothQuantConfig(data_config="rows", **options)).run(model, around)

    return run


@pytest.fixture
def outputs(context):
    def run(model, data=None):
        with context.open(model, {}) as session:
            return np.concatenate([session.run(batch.feeds)["y"] for batch in (data or Vectors()).batches()])

    return run


def weights_of(model) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in load(model.path).graph.initializer}


NORM = "h = LayerNormalization (x, gamma, beta)"
SHAPES = {"gamma": (WIDTH,), "beta": (WIDTH,), "W": (WIDTH, INNER)}
FOLDED = {
    "a norm": (f"{NORM} y = MatMul (h, W)", SHAPES),
    "a norm that two products share": (
        f"{NORM} a = MatMul (h, W) b = MatMul (h, V) y = Add (a, b)",
        SHAPES | {"V": (WIDTH, INNER)},
    ),
    "a norm whose gamma is another's": (
        f"{NORM} i = LayerNormalization (x, gamma, beta) a = MatMul (h, W) y = MatMul (i, V)",
        SHAPES | {"V": (WIDTH, INNER)},
    ),
    "a norm after a sum": (
        "h = com.microsoft.SkipLayerNormalization (x, x, gamma, beta) y = MatMul (h, W)",
        SHAPES,
    ),
    "a product": ("h = MatMul (x, U) y = MatMul (h, W)", {"U": (WIDTH, WIDTH), "W": (WIDTH, INNER)}),
    "a product with a bias": (
        "p = MatMul (x, U) h = Add (p, b) y = MatMul (h, W)",
        {"U": (WIDTH, WIDTH), "b": (WIDTH,), "W": (WIDTH, INNER)},
    ),
    "a Gemm with a transposed weight": (
        "h = Gemm <transB = 1> (x, U, b) y = Gemm <transB = 1> (h, W)",
        {"U": (INNER, WIDTH), "b": (INNER,), "W": (9, INNER)},
    ),
    "a gate": (
        "g = MatMul (x, G) s = Sigmoid (g) u = MatMul (x, U) h = Mul (s, u) y = MatMul (h, W)",
        {"G": (WIDTH, INNER), "U": (WIDTH, INNER), "W": (INNER, 9)},
    ),
}


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("text, shapes", FOLDED.values(), ids=FOLDED)
def test_a_scale_goes_into_the_weights_of_what_makes_the_activation(build, smooth, outputs, text, shapes, opset):
    model = build(text, opset=opset, **shapes)

    made = smooth(model, fold_only=True)

    assert made.report["activations"]["h"]["folded"]
    assert node_counts(load(made.model.path)) == node_counts(load(model.path)), "no node more"
    np.testing.assert_allclose(outputs(made.model), outputs(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_scales_are_those_of_the_paper(build, smooth, alpha):
    model, data = build(FOLDED["a norm"][0], **SHAPES), Vectors()
    before = weights_of(model)
    rows = data.rows.reshape(-1, WIDTH).astype(np.float64)
    normed = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    largest = np.abs(normed * before["gamma"] + before["beta"]).max(0)
    scale = largest**alpha / np.abs(before["W"]).max(1) ** (1 - alpha)

    after = weights_of(smooth(model, alpha=alpha).model)

    np.testing.assert_allclose(after["W"], before["W"] * scale[:, None], rtol=1e-5)
    np.testing.assert_allclose(after["gamma"], before["gamma"] / scale, rtol=1e-5)
    np.testing.assert_allclose(after["beta"], before["beta"] / scale, rtol=1e-5)


def test_what_others_use_too_is_divided_by_a_mul_or_left(build, smooth, outputs):
    text = f"{NORM} p = MatMul (h, W) q = MatMul (h, V) r = Relu (h) s = MatMul (r, V) y = Add (q, s)"
    model = build(text, spare=["p"], **SHAPES, V=(WIDTH, 9))

    made = smooth(model)

    assert {name: each["folded"] for name, each in made.report["activations"].items()} == {"h": False, "r": False}
    assert node_counts(load(made.model.path))["Mul"] == 2
    np.testing.assert_allclose(outputs(made.model), outputs(model), rtol=1e-4, atol=1e-5)
    with pytest.raises(PreconditionFailed, match="can be folded") as failure:
        smooth(model, fold_only=True)
    assert failure.value.hint == "set fold_only to false"


def test_channels_that_are_always_zero_stay(build, smooth, outputs):
    model, data = build("y = MatMul (x, W)", W=(WIDTH, 9)), Vectors()
    data.rows[..., 5] = 0

    made = smooth(model, data)

    np.testing.assert_array_equal(weights_of(made.model)["W"][5], weights_of(model)["W"][5])
    np.testing.assert_allclose(outputs(made.model, data), outputs(model, data), rtol=1e-4, atol=1e-5)


def test_8_bits_lose_less_after_it_where_channels_differ(build, smooth, outputs, context):
    data = Vectors(outliers=True)
    model = build("y = MatMul (x, W)", W=(WIDTH, 9))
    right = outputs(model, data)
    quantize = OnnxDynamicQuantization(OnnxDynamicQuantizationConfig())

    def off(source):
        return np.linalg.norm(outputs(quantize.run(source, context).model, data) - right)

    plain = off(model)
    smoothed = dataclasses.replace(context, folder=context.folder / "smoothed")
    smoothed.folder.mkdir()
    made = OrtSmoothQuant(OrtSmoothQuantConfig(data_config="rows")).run(
        model, dataclasses.replace(smoothed, data={"rows": data})
    )

    assert off(made.model) < plain / 3
    before, after = made.report["activations"]["x"]["spread"]
    assert before > 50 > 20 > after


def test_a_fused_bert_computes_what_it_did_and_values_carry_scale(converted, context, tmp_path, logits):
    """Of each layer the attention's result is folded into its values; the norms feed residuals too."""
    folder = tmp_path / "fused"
    folder.mkdir()
    fuse = OrtTransformersOptimization(OrtTransformersOptimizationConfig())
    fused = fuse.run(converted, dataclasses.replace(context, folder=folder)).model

    made = OrtSmoothQuant(OrtSmoothQuantConfig(data_config="rows")).run(fused, context)

    assert made.report["summary"] == "10 activations smoothed: 2 by weights, 8 by a Mul"
    np.testing.assert_allclose(logits(made.model), logits(fused), atol=1e-6)


def test_rows_and_weights_are_needed(build, smooth):
    with pytest.raises(PreconditionFailed, match="no rows"):
        smooth(build("y = MatMul (x, W)", W=(WIDTH, 9)), Vectors(0))
    with pytest.raises(PreconditionFailed, match="no activation of the model") as failure:
        smooth(build("y = Relu (x)"))
    assert failure.value.hint == "OrtSmoothQuant comes before quantization"


def test_as_many_rows_are_looked_at_as_the_options_say(build, smooth):
    read = []

    class Watched(Vectors):
        def batches(self, rows=None, *, size=None):
            read.append(len(rows))
            return super().batches(rows, size=size)

    smooth(build("y = MatMul (x, W)", W=(WIDTH, 9)), Watched(20), calibration_rows=7)

    assert read == [7]

"""OnnxMatMul4Quantizer against ONNX Runtime's own quantizer of whole models, and against arithmetic."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Accelerator, Batch, Dataset, ModelHandle, PluginError, PreconditionFailed
from hfopt.testing import validate
from hfopt_onnx_model.graph import handle_of, load
from hfopt_ort_passes import gptq, nbits
from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer, OnnxMatMul4QuantizerConfig
from hfopt_ort_passes.quiet import quiet

VOCABULARY, WIDTH, INNER = 50, 64, 192

pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # the library's own HQQ


def random_model(dtype: str = "float32", *, second: str = "W_shared") -> onnx.ModelProto:
    """Embeddings, then MatMuls: two that share a weight, one whose weight is [1, in, out], one inside an If."""
    random = np.random.default_rng(7)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.1 * random.standard_normal(shape)).astype(dtype), name)

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["down", "W_inner"], ["then"], name="inner")],
        "then",
        [],
        [helper.make_tensor_value_info("then", kind, None)],
        [weight("W_inner", WIDTH, WIDTH)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["down"], ["else"], name="other")],
        "else",
        [],
        [helper.make_tensor_value_info("else", kind, None)],
    )
    nodes = [
        helper.make_node("Gather", ["E", "ids"], ["embedded"], name="embed"),
        helper.make_node("MatMul", ["embedded", "W_shared"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", second], ["b"], name="second"),
        helper.make_node("Add", ["b", "bias"], ["biased"], name="add"),
        helper.make_node("MatMul", ["biased", "W_up"], ["up"], name="up"),
        helper.make_node("MatMul", ["up", "W_deep"], ["down"], name="deep"),
        helper.make_node("If", ["condition"], ["chosen"], name="if", then_branch=branch, else_branch=other),
        helper.make_node("MatMul", ["chosen", "W_head"], ["logits"], name="head"),
    ]
    weights = [
        weight("E", VOCABULARY, WIDTH),
        weight("W_shared", WIDTH, WIDTH),
        weight("bias", WIDTH),
        weight("W_up", WIDTH, INNER),
        weight("W_deep", 1, INNER, WIDTH),
        weight("W_head", WIDTH, 40),
        numpy_helper.from_array(np.array(True), "condition"),
    ]
    if second != "W_shared":
        weights.append(weight(second, WIDTH, WIDTH))
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
    outputs = [helper.make_tensor_value_info("logits", kind, ["batch_size", "sequence_length", 40])]
    graph = helper.make_graph(nodes, "random", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def handle(path) -> ModelHandle:
    like = ModelHandle(type="PyTorchModel", path=path, files=())
    described = handle_of(path, like=like)
    return described.with_(inputs=(described.inputs[0].model_copy(update={"high": VOCABULARY}),))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> ModelHandle:
    path = tmp_path_factory.mktemp("one") / "source.onnx"
    onnx.save(random_model(), str(path))
    return handle(path)


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> ModelHandle:
    """The same model, its weights in a file beside it."""
    path = tmp_path_factory.mktemp("beside") / "source.onnx"
    onnx.save(random_model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=1024)
    return handle(path)


def quantize(model, context, **options):
    with_validation = OnnxMatMul4QuantizerConfig(**options)
    return OnnxMatMul4Quantizer(with_validation).run(model, context)


def run(context, model, ids=None) -> np.ndarray:
    ids = np.arange(24).reshape(2, 12) if ids is None else ids
    with context.open(model, {}) as session:
        return session.run({"ids": ids})["logits"]


def assert_near(got: np.ndarray, expected: np.ndarray) -> None:
    """What 4 bits leave of random weights, which are harder to quantize than those of a trained model."""
    assert np.linalg.norm(got - expected) < 0.25 * np.linalg.norm(expected)


def by_name(model: onnx.ModelProto) -> dict[str, bytes]:
    """Every initializer and every node of a model, inner graphs included, as bytes."""
    content = {}

    def visit(graph):
        for tensor in graph.initializer:
            tensor.ClearField("data_location")  # set once external data have been loaded
            content[f"tensor {tensor.name}"] = tensor.SerializeToString()
        for node in graph.node:
            inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            for each in inner:
                visit(each)
            if not inner:
                content[f"node {node.output[0]}"] = node.SerializeToString()

    visit(model.graph)
    return content


def library(algorithm, *, symmetric, block_size=32, bits=4, level=4, operators=("MatMul",), exclude=("head",)):
    """The whole model, quantized by ONNX Runtime in memory."""
    with quiet():
        from onnxruntime.quantization import matmul_nbits_quantizer as theirs

        configs = {
            "DEFAULT": lambda: theirs.DefaultWeightOnlyQuantConfig(
                block_size, symmetric, level, op_types_to_quantize=operators, bits=bits
            ),
            "RTN": theirs.RTNWeightOnlyQuantConfig,
            "HQQ": lambda: theirs.HQQWeightOnlyQuantConfig(block_size=block_size),
            "k_quant": theirs.KQuantWeightOnlyQuantConfig,
        }
        quantizer = theirs.MatMulNBitsQuantizer(
            random_model(),
            block_size=block_size,
            is_symmetric=symmetric,
            accuracy_level=level,
            nodes_to_exclude=list(exclude),
            algo_config=configs[algorithm](),
        )
        quantizer.process()
    return quantizer.model.model


BOTH = ("MatMul", "Gather")

RECIPES = [
    ("DEFAULT", {"is_symmetric": True}, {}),
    ("DEFAULT", {"is_symmetric": False}, {}),
    ("DEFAULT", {"is_symmetric": True, "block_size": 16, "bits": 8}, {"block_size": 16, "bits": 8}),
    ("DEFAULT", {"is_symmetric": True, "op_types_to_quantize": BOTH}, {"operators": BOTH}),
    ("DEFAULT", {"is_symmetric": False, "op_types_to_quantize": BOTH}, {"operators": BOTH}),
    ("RTN", {"is_symmetric": True}, {}),
    ("RTN", {"is_symmetric": False}, {}),
    ("HQQ", {}, {}),
    ("k_quant", {}, {}),
]

LEFT_BY_THE_LIBRARY = ("tensor W_inner", "tensor W_shared", "node then")
"""RTN and k_quant do not look into inner graphs, and keep a shared weight that nobody needs any more."""


@pytest.mark.parametrize("slice_bytes", [nbits.SLICE, 64 * 4 * 7], ids=["whole", "sliced"])
@pytest.mark.parametrize("algorithm, options, theirs", RECIPES)
def test_nodes_and_tensors_are_those_of_onnx_runtimes_quantizer(
    beside, context, monkeypatch, algorithm, options, theirs, slice_bytes
):
    monkeypatch.setattr(nbits, "SLICE", slice_bytes)
    result = quantize(beside, context, algorithm=algorithm, nodes_to_exclude=("head",), **options)

    ours = by_name(load(result.model.path))
    whole = by_name(library(algorithm, symmetric=options.get("is_symmetric", True), **theirs))
    if algorithm in ("RTN", "k_quant"):
        ours = {name: value for name, value in ours.items() if "inner" not in name and name != "node then"}
        whole = {name: value for name, value in whole.items() if name not in LEFT_BY_THE_LIBRARY}
    assert ours == whole


@pytest.mark.parametrize("algorithm", ["DEFAULT", "HQQ"])
def test_a_session_computes_what_the_librarys_model_computes(beside, context, tmp_path, algorithm):
    result = quantize(beside, context, algorithm=algorithm, nodes_to_exclude=("head",))
    theirs = library(algorithm, symmetric=True)
    # A weight that two nodes share is there twice, which no session takes.
    once = {tensor.name: onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in theirs.graph.initializer}
    del theirs.graph.initializer[:]
    theirs.graph.initializer.extend(once.values())
    onnx.save(theirs, str(tmp_path / "theirs.onnx"))

    got, expected = run(context, result.model), run(context, handle(tmp_path / "theirs.onnx"))

    np.testing.assert_array_equal(got, expected)
    assert_near(got, run(context, beside))


def test_quantized_weights_are_what_dividing_by_their_scales_and_rounding_gives(source, context):
    """Independent of ONNX Runtime: symmetric blocks of 32 inputs, whose value furthest from 0 becomes -8."""
    weight = tensors(source)["W_up"]
    quantized = tensors(quantize(source, context).model)
    packed, scales = quantized["W_up_Q4"], quantized["W_up_scales"]

    blocks = weight.T.reshape(INNER, -1, 32)
    furthest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    values = np.stack([packed & 15, packed >> 4], -1).reshape(INNER, -1, 32)

    np.testing.assert_allclose(scales, furthest / -8, rtol=1e-6)
    rounded = np.clip(np.round(blocks / scales[..., None]) + 8, 0, 15)
    assert np.abs(values.astype(int) - rounded).max() <= 1
    assert (values == rounded).mean() > 0.999


def tensors(model: ModelHandle) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in load(model.path).graph.initializer}


def test_embeddings_are_quantized_when_asked_for_and_the_opset_stays(source, context):
    result = quantize(source, context, op_types_to_quantize=BOTH, quant_axes={"Gather": 0})

    model = load(result.model.path)
    assert result.report["quantized"] == {"MatMulNBits": 5, "GatherBlockQuantized": 1}
    assert (model.ir_version, model.opset_import[0].version) == (10, 17)
    assert tensors(result.model)["E_scales"].shape == (2, WIDTH)
    assert_near(run(context, result.model), run(context, source))


def test_a_weight_that_nodes_share_is_stored_once(source, context):
    graph = load(quantize(source, context).model.path).graph

    names = [tensor.name for tensor in graph.initializer]
    assert names.count("W_shared_Q4") == 1
    assert "W_shared" not in names
    nodes = {node.output[0]: list(node.input) for node in graph.node}
    assert nodes["a"] == ["embedded", "W_shared_Q4", "W_shared_scales"]
    assert nodes["b"] == ["a", "W_shared_Q4", "W_shared_scales"]


def test_a_weight_that_is_both_an_embedding_and_a_factor_gets_tensors_for_either(context, tmp_path):
    """ONNX Runtime's own quantizer gives both the same names."""
    random = np.random.default_rng(1)
    square = numpy_helper.from_array(random.standard_normal((WIDTH, WIDTH)).astype("float32"), "W")
    nodes = [
        helper.make_node("Gather", ["W", "ids"], ["embedded"], name="embed"),
        helper.make_node("MatMul", ["embedded", "W"], ["logits"], name="head"),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "tied", inputs, outputs, [square])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "tied.onnx"
    )
    tied = handle(tmp_path / "tied.onnx")

    result = quantize(tied, context, op_types_to_quantize=BOTH)

    assert sorted(tensors(result.model)) == ["W_Q4", "W_Q4_2", "W_scales", "W_scales_2"]
    assert_near(run(context, result.model), run(context, tied))


def test_a_weight_that_is_needed_elsewhere_stays(source, context):
    result = quantize(source, context, nodes_to_exclude=("second", "inner"))

    assert {"W_shared", "W_shared_Q4"} <= set(tensors(result.model))
    np.testing.assert_array_equal(tensors(result.model)["W_shared"], tensors(source)["W_shared"])


def test_half_precision_weights_are_quantized_too(context, tmp_path):
    onnx.save(random_model("float16"), str(tmp_path / "half.onnx"))
    half = handle(tmp_path / "half.onnx")

    result = quantize(half, context, algorithm="RTN")

    assert tensors(result.model)["W_up_scale"].dtype == np.float16
    assert np.isfinite(run(context, result.model)).all()


def attributes(model: ModelHandle, output: str) -> dict[str, int]:
    node = next(node for node in load(model.path).graph.node if node.output[0] == output)
    return {attribute.name: attribute.i for attribute in node.attribute}


HQQ_16 = {"bits": 4, "block_size": 16}


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, {"bits": 4, "block_size": 32, "accuracy_level": 4}),
        ({"accuracy_level": 1, "block_size": 64}, {"bits": 4, "block_size": 64, "accuracy_level": 1}),
        ({"accuracy_level": 0, "bits": 8}, {"bits": 8, "block_size": 32}),
        ({"algorithm": "RTN", "bits": 8, "block_size": 16}, {"bits": 8, "block_size": 16, "accuracy_level": 4}),
        ({"algorithm": "KQUANT", "bits": 8, "accuracy_level": 2}, {"bits": 8, "block_size": 32, "accuracy_level": 2}),
        ({"algorithm": "hqq", "block_size": 64}, {"bits": 4, "block_size": 64}),
        ({"algorithm": None, "block_size": 16}, {"bits": 4, "block_size": 16, "accuracy_level": 4}),
        (
            {"weight_only_quant_configs": {"block_size": 128, "bits": 8, "accuracy_level": 1}, "block_size": 16},
            {"bits": 8, "block_size": 128, "accuracy_level": 1},
        ),
        (
            {"algorithm": "HQQ", "weight_only_quant_configs": {"block_size": 16, "axis": 1}},
            {"bits": 4, "block_size": 16},
        ),
    ],
)
def test_options_reach_the_nodes(source, context, options, expected):
    got = attributes(quantize(source, context, **options).model, "up")

    assert got == {"K": WIDTH, "N": INNER, **expected}


def test_symmetry_and_ratios_reach_the_tensors(source, context):
    asymmetric = tensors(quantize(source, context, weight_only_quant_configs={"is_symmetric": False}).model)
    assert asymmetric["W_up_zero_points"].dtype == np.uint8
    whole = tensors(quantize(source, context, algorithm="RTN").model)["W_up_scale"]
    clipped = quantize(source, context, algorithm="RTN", weight_only_quant_configs={"ratios": {"W_up": 0.5}}).model
    np.testing.assert_allclose(tensors(clipped)["W_up_scale"], whole / 2, rtol=1e-6)


def test_int8_products_are_the_default_on_the_cpu_alone(source, context):
    cuda = Accelerator(device="gpu", execution_provider="CUDAExecutionProvider")

    assert attributes(quantize(source, context).model, "up")["accuracy_level"] == 4
    elsewhere = dataclasses.replace(context, accelerator=cuda)
    assert "accuracy_level" not in attributes(quantize(source, elsewhere).model, "up")
    assert attributes(quantize(source, elsewhere, accuracy_level=4).model, "up")["accuracy_level"] == 4


@pytest.mark.parametrize(
    "options, message",
    [
        ({"block_size": 48}, "must be 16, 32, 64, 128 or 256"),
        ({"algorithm": "AWQ"}, "must be 'DEFAULT', 'RTN', 'HQQ', 'GPTQ' or 'k_quant'"),
        ({"algorithm": "HQQ", "is_symmetric": True}, "HQQ always has zero points"),
        ({"algorithm": "k_quant", "is_symmetric": True}, "k_quant always has zero points"),
        ({"algorithm": "HQQ", "bits": 8}, "HQQ quantizes to 4 bits only"),
        ({"algorithm": "HQQ", "accuracy_level": 4}, "HQQ has zero points that are not integers"),
        ({"algorithm": "RTN", "op_types_to_quantize": ["Gather"]}, "Gather is quantized by DEFAULT only"),
        ({"bits": 8, "op_types_to_quantize": ["Gather"], "quant_axes": {"Gather": 0}}, "along the entries: 1"),
        ({"algorithm": "GPTQ"}, "GPTQ needs a data_config to calibrate with; the other algorithms need none"),
        ({"quant_axes": {"MatMul": 1}}, "the weight of a MatMul is quantized along axis 0 only"),
        ({"algorithm": "HQQ", "weight_only_quant_configs": {"axis": 0}}, "HQQ quantizes along axis 1 only"),
        ({"weight_only_quant_configs": {"block_size": 48}}, "block_size must be 16, 32, 64, 128 or 256"),
        (
            {"algorithm": "RTN", "weight_only_quant_configs": {"percdamp": 0.1}},
            "RTN has no option 'percdamp' here; it has ratios",
        ),
        (
            {"algorithm": "k_quant", "weight_only_quant_configs": {"ratios": {}}},
            "k_quant has no option 'ratios' here; it has none",
        ),
    ],
)
def test_what_can_not_be_done_is_refused_in_a_sentence(options, message):
    problems = []
    validate(OnnxMatMul4QuantizerConfig, options, (), problems)

    assert message in " ".join(problem.message for problem in problems)


def test_a_node_to_exclude_that_does_not_exist_is_an_error_with_the_nearest(source, context):
    with pytest.raises(PreconditionFailed, match=r"nodes_to_exclude: the graph has no node 'frist'\n.*mean 'first'"):
        quantize(source, context, nodes_to_exclude=("frist",))


def test_a_ratio_of_a_weight_that_is_not_quantized_is_an_error_with_the_nearest(source, context):
    with pytest.raises(
        PreconditionFailed, match=r"ratios: no weight that is quantized is named 'W_upp'\n.*mean 'W_up'"
    ):
        quantize(source, context, algorithm="RTN", weight_only_quant_configs={"ratios": {"W_upp": 0.5}})


def test_a_model_without_weights_to_quantize_is_an_error(source, context):
    every = ("first", "second", "up", "deep", "inner", "head")
    with pytest.raises(PreconditionFailed, match="the model has no MatMul whose weight can be quantized"):
        quantize(source, context, nodes_to_exclude=every)


def test_weights_that_an_algorithm_can_not_pack_are_named(source, context):
    with pytest.raises(PreconditionFailed, match=r"block_size 64 their number is odd in first, second, up and 2 more"):
        quantize(source, context, algorithm="RTN", is_symmetric=False, block_size=64)
    quantize(source, context, algorithm="RTN", is_symmetric=True, block_size=64)


def test_hqq_without_pytorch_says_what_to_install(source, context, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(PluginError, match="HQQ computes with PyTorch, which is not installed"):
        quantize(source, context, algorithm="HQQ")


class Ids(Dataset):
    """Rows of random ids, of unequal length."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def batches(self, rows=None):
        for row in range(self.count):
            ids = np.random.default_rng(row).integers(0, VOCABULARY, (1, 30 + row % 5))
            yield Batch(np.array([row]), {"ids": ids}, None)

    def post_process(self, outputs):
        return outputs["logits"]


@pytest.fixture
def with_rows(context):
    return dataclasses.replace(context, data={"rows": Ids(12), "none": Ids(0)})


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_gives_what_onnx_runtimes_quantizer_gives(with_rows, tmp_path, symmetric):
    """Without a shared weight: there the library takes either of the nodes, by the order of a set."""
    onnx.save(random_model(second="W_second"), str(tmp_path / "model.onnx"))
    own = {"actorder": True, "block_size": 64, "percdamp": 0.05}
    result = quantize(
        handle(tmp_path / "model.onnx"),
        with_rows,
        algorithm="GPTQ",
        data_config="rows",
        is_symmetric=symmetric,
        weight_only_quant_configs=own,
    )

    with quiet():
        from onnxruntime.quantization import matmul_nbits_quantizer as theirs

        rows = [batch.feeds for batch in Ids(12).batches()]
        config = theirs.GPTQWeightOnlyQuantConfig(rows, **own)
        quantizer = theirs.MatMulNBitsQuantizer(
            random_model(second="W_second"), block_size=32, is_symmetric=symmetric, accuracy_level=4, algo_config=config
        )
        quantizer.process()
    assert by_name(load(result.model.path)) == by_name(quantizer.model.model)
    assert (result.report["quantized"], result.report["warning"]) == ({"MatMulNBits": 4}, gptq.NOTICE)
    assert sorted(path.name for path in with_rows.folder.iterdir()) == ["model.onnx"]


def test_gptq_of_a_shared_weight_goes_by_the_first_node_that_has_it(source, with_rows):
    shared = load(quantize(source, with_rows, algorithm="GPTQ", data_config="rows").model.path)
    alone = quantize(source, with_rows, algorithm="GPTQ", data_config="rows", nodes_to_exclude=("second",)).model

    name = "tensor W_shared_Q4G32"
    assert by_name(shared)[name] == by_name(load(alone.path))[name]
    nodes = {node.output[0]: list(node.input) for node in shared.graph.node}
    assert nodes["b"] == ["a", *nodes["a"][1:]]


def test_gptq_leaves_out_what_is_excluded(source, with_rows):
    result = quantize(source, with_rows, algorithm="GPTQ", data_config="rows", nodes_to_exclude=("head",))

    assert result.report["quantized"] == {"MatMulNBits": 3}
    np.testing.assert_array_equal(tensors(result.model)["W_head"], tensors(source)["W_head"])


def test_gptq_of_a_model_beyond_the_limit_of_protobuf_gives_the_same(source, with_rows, monkeypatch):
    """The limits lowered, as no model of 2 GB is at hand: weights go through files then."""
    small = by_name(load(quantize(source, with_rows, algorithm="GPTQ", data_config="rows").model.path))
    from onnxruntime.quantization.neural_compressor import onnx_model

    monkeypatch.setattr(onnx_model, "MAXIMUM_PROTOBUF", 10_000)
    monkeypatch.setattr("hfopt_onnx_model.graph.EXTERNAL_THRESHOLD", 10_000)
    result = quantize(source, with_rows, algorithm="GPTQ", data_config="rows")

    assert by_name(load(result.model.path)) == small
    assert files(with_rows) == ["model.onnx", "model.onnx.data"]


def test_gptq_refuses_a_model_that_does_not_fit_and_data_without_rows(source, with_rows, monkeypatch):
    with pytest.raises(PreconditionFailed, match="there are no rows to calibrate with"):
        quantize(source, with_rows, algorithm="GPTQ", data_config="none")
    monkeypatch.setattr(gptq, "available_bytes", lambda: 100_000)
    work = OnnxMatMul4Quantizer(OnnxMatMul4QuantizerConfig(algorithm="GPTQ", data_config="rows"))
    with pytest.raises(PreconditionFailed, match=r"needs 0\.0 GB of memory for it; 0\.0 GB are available"):
        work.requires(source)
    OnnxMatMul4Quantizer(OnnxMatMul4QuantizerConfig(algorithm="RTN")).requires(source)


def test_available_memory_is_the_machines_or_the_containers(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    (tmp_path / "limit").write_text("1000\n")
    (tmp_path / "none").write_text("max\n")

    assert gptq.available_bytes(tmp_path / "meminfo", tmp_path / "limit") == 1000
    assert gptq.available_bytes(tmp_path / "meminfo", tmp_path / "none") == 2048 * 1024
    assert gptq.available_bytes(tmp_path / "no such file", tmp_path / "limit") is None


def files(context) -> list[str]:
    return sorted(path.name for path in context.folder.iterdir())


def test_weights_lie_where_those_of_the_input_model_do_unless_it_is_written(source, beside, context):
    expected = tensors(quantize(source, context).model)
    assert files(context) == ["model.onnx"]
    for model, options, listed in (
        (beside, {}, ["model.onnx", "model.onnx.data"]),
        (beside, {"save_as_external_data": False}, ["model.onnx"]),
        (source, {"save_as_external_data": True, "external_data_name": "w.bin"}, ["model.onnx", "w.bin"]),
    ):
        for path in context.folder.iterdir():
            path.unlink()
        result = quantize(model, context, **options)
        assert files(context) == listed
        assert sorted(path.name for path in result.model.files) == listed
        got = tensors(result.model)
        assert got.keys() == expected.keys()
        assert all(np.array_equal(got[name], expected[name]) for name in expected)


def test_every_tensor_has_a_file_of_its_own_when_asked_for(beside, context):
    result = quantize(beside, context, all_tensors_to_one_file=False, size_threshold=2_000)

    assert files(context) == ["model.onnx", *(f"model.onnx.data.{number:04}" for number in range(5))]
    run(context, result.model)


def test_tensors_above_the_threshold_go_beside_the_model_attributes_only_when_asked_for(context, tmp_path):
    model = random_model()
    constant = numpy_helper.from_array(np.ones((40, 40), np.float32), "ones")
    model.graph.node.append(helper.make_node("Constant", [], ["ones"], name="constant", value=constant))
    onnx.save(model, str(tmp_path / "constant.onnx"))
    source = handle(tmp_path / "constant.onnx")

    def stored_beside(**options):
        quantized = quantize(source, context, save_as_external_data=True, **options).model
        inline = load(quantized.path, weights=False).graph
        every = [*inline.initializer, inline.node[-1].attribute[0].t]
        (context.folder / "model.onnx.data").unlink()
        return {tensor.name for tensor in every if tensor.data_location == TensorProto.EXTERNAL}

    assert stored_beside(size_threshold=5_000) == {"E", "W_deep_Q4", "W_up_Q4"}
    assert stored_beside(size_threshold=5_000, convert_attribute=True) == {"E", "W_deep_Q4", "W_up_Q4", "ones"}


def test_a_copied_weight_has_the_bytes_it_had(beside, context):
    quantized = tensors(quantize(beside, context, nodes_to_exclude=("up",)).model)
    original = tensors(beside)

    for name in ("E", "W_up", "bias"):
        np.testing.assert_array_equal(quantized[name], original[name])


@pytest.mark.parametrize(
    "entry, message",
    [
        (("location", "../weights.bin"), "outside the model's folder"),
        (("offset", "1000000"), "weights.bin is truncated: it has 154112 bytes, and 'E' would end"),
        (("length", "400"), "weights.bin has fewer bytes of the weight 'E' than its shape says"),
        (("location", "gone.bin"), "weights are in 'gone.bin', which is missing"),
    ],
)
def test_external_data_that_are_not_what_they_should_be_are_an_error(context, tmp_path, entry, message):
    path = tmp_path / "damaged.onnx"
    onnx.save(random_model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=1024)
    damaged = handle(path)
    model = load(path, weights=False)
    key, value = entry
    for item in model.graph.initializer[0].external_data:
        if item.key == key:
            item.value = value
    onnx.save(model, str(path))

    with pytest.raises(PreconditionFailed, match=message):
        quantize(damaged, context, op_types_to_quantize=("Gather",))


def test_the_same_input_gives_the_same_bytes_and_nothing_is_printed(beside, context, capfd):
    before = (logging.getLogger().level, list(logging.getLogger().handlers))
    contents = []
    for _ in range(2):
        quantize(beside, context, algorithm="RTN")
        contents.append([path.read_bytes() for path in sorted(context.folder.iterdir())])
        for path in context.folder.iterdir():
            path.unlink()

    assert contents[0] == contents[1]
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before
    assert capfd.readouterr() == ("", "")

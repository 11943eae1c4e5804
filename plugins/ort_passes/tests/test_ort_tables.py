"""Embedding tables of 8 and 4 bits, alone and before the weights get 8: what sessions look up, against NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import ModelHandle
from hfopt.api.forecast import with_bits
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes import nbits
from hfopt_ort_passes.fusion import OrtTransformersOptimization, OrtTransformersOptimizationConfig
from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer, OnnxMatMul4QuantizerConfig
from hfopt_ort_passes.quantization import OnnxDynamicQuantization
from hfopt_ort_passes.quantization_options import OnnxDynamicQuantizationConfig
from hfopt_ort_passes.tables import blockwise

ENTRIES, WIDTH, BLOCK = 40, 80, 32
"""The last block of an entry is not full."""


def table():
    draw = np.random.default_rng(3)
    values = draw.normal(size=(ENTRIES, WIDTH)) * draw.uniform(0.1, 10, size=(ENTRIES, 1))
    values[1] = 0
    values[2] = np.abs(values[2])
    return values.astype(np.float32)


@pytest.fixture
def lookup(tmp_path, context):
    """A table in a file of its own, as a pass makes it, and what a session finds in it."""

    def run(**options):
        ends = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
        made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])]
        gather = helper.make_node("Gather", ["E", "ids"], ["y"], name="embed")
        graph = helper.make_graph([gather], "g", ends, made, [numpy_helper.from_array(table(), "E")])
        path = tmp_path / "table.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        source = handle_of(path, like=ModelHandle(type="PyTorchModel", path=path, files=()))
        config = OnnxMatMul4QuantizerConfig(op_types_to_quantize=("Gather",), block_size=BLOCK, **options)
        model = OnnxMatMul4Quantizer(config).run(source, context).model
        with context.open(model, {}) as session:
            return model, session.run({"ids": np.arange(ENTRIES)})["y"]

    return run


@pytest.mark.parametrize(("bits", "steps"), [(8, 256), (4, 16)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_entries_are_off_by_half_a_step_of_their_block_at_most(lookup, bits, steps, symmetric):
    _, found = lookup(bits=bits, is_symmetric=symmetric)

    expected = table()
    for start in range(0, WIDTH, BLOCK):
        block, got = expected[:, start : start + BLOCK], found[:, start : start + BLOCK]
        low, high = np.minimum(block.min(axis=1), 0), np.maximum(block.max(axis=1), 0)
        step = np.maximum(-low, high) * 2 / steps if symmetric else (high - low) / (steps - 1)
        off = np.abs(got - block).max(axis=1)
        # The end of the range opposite to the furthest value, or a zero point that is rounded, costs up to a step.
        assert (off <= 1.001 * step).all()
        assert np.median(off / np.where(step == 0, 1, step)) <= 0.51 + (not symmetric) * 0.2
    assert (found[1] == 0).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_session_looks_up_what_the_bytes_and_scales_say(lookup, symmetric):
    _, found = lookup(bits=8, is_symmetric=symmetric)

    values, scales, zero_points = blockwise(table(), BLOCK, symmetric=symmetric)
    offsets = 128 if zero_points is None else zero_points.astype(np.float32).repeat(BLOCK, axis=1)[:, :WIDTH]
    expected = (values.astype(np.float32) - offsets) * scales.repeat(BLOCK, axis=1)[:, :WIDTH]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_a_table_in_slices_is_what_the_whole_gives(lookup, monkeypatch):
    whole = load(lookup(bits=8)[0].path)
    monkeypatch.setattr(nbits, "SLICE", 4 * WIDTH * 6)
    sliced = load(lookup(bits=8)[0].path)

    assert whole.SerializeToString() == sliced.SerializeToString()


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_get_8_bits_after_the_tables_and_the_forecast_knows(converted, context, tmp_path, logits, bits):
    folder = tmp_path / "tables"
    folder.mkdir()
    tables = OnnxMatMul4Quantizer(OnnxMatMul4QuantizerConfig(op_types_to_quantize=("Gather",), bits=bits))
    weights = OnnxDynamicQuantization(OnnxDynamicQuantizationConfig())

    first = tables.run(converted, dataclasses.replace(context, folder=folder))
    second = weights.run(first.model, context)

    counts = node_counts(load(second.model.path))
    assert (counts["GatherBlockQuantized"], counts["MatMulInteger"]) == (3, 14)
    assert "warning" not in second.report
    assert np.abs(logits(second.model) - logits(converted)).max() < {8: 0.02, 4: 0.1}[bits]
    before = {"table": (1000.0, 32.0), "matrix": (10.0, 32.0)}
    told = weights.forecast(tables.forecast(before))
    assert told == with_bits(before, 8, ["matrix"]) | {"table": (1000.0, bits + 1.0)}


@pytest.mark.parametrize(
    ("options", "kind"), [({}, "fused attention"), ({"use_multi_head_attention": True}, "attention")]
)
def test_the_forecast_knows_in_which_operator_fusion_leaves_queries_keys_and_values(options, kind):
    fuse = OrtTransformersOptimization(OrtTransformersOptimizationConfig(optimization_options=options))

    assert fuse.forecast({"attention": (10.0, 32.0)}) == {kind: (10.0, 32.0)}

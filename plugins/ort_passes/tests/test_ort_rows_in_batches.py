"""Whether a row's logits stay the same in a batch of rows of its length: converted, float16, and quantized."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hfopt.api.example import example_feeds
from hfopt_onnx_conversion.half import OnnxFloatToFloat16
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer
from hfopt_ort_passes.quantization import OnnxQuantization

ROWS = 24
LENGTHS = (4, 9, 17)
INDEPENDENT = {
    "as converted": None,
    "fused": (OrtTransformersOptimization, {}),
    "float16": (OnnxFloatToFloat16, {}),
    "static int8": (OnnxQuantization, {"quant_mode": "static", "data_config": "rows"}),
    "static int8, integer operators": (
        OnnxQuantization,
        {"quant_mode": "static", "data_config": "rows", "quant_format": "QOperator"},
    ),
    "int4 weights": (OnnxMatMul4Quantizer, {"accuracy_level": 0}),
    "int4 weights, int8 activations": (OnnxMatMul4Quantizer, {"accuracy_level": 4}),
}


def made(work, model, context):
    return model if work is None else work[0](work[0].Config(**work[1])).run(model, context).model


def together_and_alone(session, inputs):
    """Logits of random rows, computed in one batch for each length, and row by row."""
    together, alone = [], []
    for length in LENGTHS:
        feeds = example_feeds(inputs, {"batch_size": ROWS, "sequence_length": length}, seed=length)
        together.append(session.run(feeds)["logits"])
        rows = ({name: array[row : row + 1] for name, array in feeds.items()} for row in range(ROWS))
        alone += [session.run(row)["logits"] for row in rows]
    return np.concatenate(together), np.concatenate(alone)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_of_equal_length_have_the_same_logits_in_a_batch_as_alone(converted, context, lines, name):
    context = dataclasses.replace(context, data={"rows": lines(24)})

    with context.open(made(INDEPENDENT[name], converted, context), {}) as session:
        together, alone = together_and_alone(session, converted.inputs)
        assert session.rows_are_independent

    assert (together.argmax(axis=1) == alone.argmax(axis=1)).all()
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_dynamically_quantized_model_says_that_rows_of_a_batch_depend_on_each_other(
    converted, context, fused, tmp_path
):
    """And they do: one scale for all of them."""
    source = converted
    if fused:
        source = made((OrtTransformersOptimization, {}), converted, context)
        moved = source.path.rename(tmp_path / "fused.onnx")
        source = source.with_(path=moved, files=(moved,))

    with context.open(made((OnnxQuantization, {"quant_mode": "dynamic"}), source, context), {}) as session:
        together, alone = together_and_alone(session, converted.inputs)
        assert not session.rows_are_independent

    assert np.abs(together - alone).max() > 1e-4

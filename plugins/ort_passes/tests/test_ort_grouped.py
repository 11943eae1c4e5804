"""Decoders with a cache after fusion: one operator for attention, the same logits and texts as in PyTorch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hfopt import Accelerator, ModelHandle, PreconditionFailed
from hfopt.api.parity import Parity
from hfopt.testing import run_compared
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_conversion.export import export
from hfopt_onnx_conversion.generation import compare, write
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes import grouped
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import OrtTransformersOptimizationConfig
from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer
from hfopt_ort_passes.quantization import OnnxDynamicQuantization

SIZES = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 128}
STRETCHED = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 32}
DECODERS = {
    "llama": transformers.LlamaConfig(**SHARED, rope_parameters=STRETCHED),
    "qwen3": transformers.Qwen3Config(**SHARED, head_dim=16),
    "mistral": transformers.MistralConfig(**SHARED, head_dim=8, sliding_window=8),
    "phi": transformers.PhiConfig(**SIZES),
    "gpt2": transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}
ROTATED = dict.fromkeys(DECODERS, 4) | {"gpt2": 0}
"""Queries and keys of both layers."""


def described(config, folder: Path) -> ModelHandle:
    """A model of random weights, large enough that its texts vary."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(folder)
    return PyTorchModel(loaded(folder)).fetch(None)


def loaded(folder: Path) -> PyTorchModelConfig:
    return PyTorchModelConfig(model_path=str(folder), hf_config={"task": "text-generation"})


def open_source(handle: ModelHandle):
    return PyTorchModel(loaded(handle.path)).open(handle, Accelerator(), {"threads": 1, "attn_implementation": "eager"})


def convert(handle: ModelHandle, path: Path, opset: int | None = None) -> ModelHandle:
    with open_source(handle) as source:
        export(source, handle.inputs, path, opset, exporters=("torchscript",))
    return handle_of(path, like=handle)


def fuse(model, context, **options):
    config = OrtTransformersOptimizationConfig.model_validate_json(json.dumps(options))
    return run_compared(OrtTransformersOptimization(config), model, context, Parity())


@pytest.mark.parametrize("name", DECODERS)
def test_a_fused_decoder_computes_and_writes_what_pytorch_does(name, context, tmp_path):
    source = described(DECODERS[name], tmp_path / "model")

    result = fuse(convert(source, tmp_path / "model.onnx"), context)

    assert result.report["fused"]["GroupQueryAttention"] == 2
    assert result.report["fused"].get("RotaryEmbedding", 0) == ROTATED[name]
    assert "Softmax" not in node_counts(load(result.model.path))
    assert "warning" not in result.report
    with open_source(source) as opened:
        written = write(opened, source)
    with context.open(result.model, {}) as fused:
        assert compare(written, fused) == {"equal": 96, "of": 96}


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> ModelHandle:
    return described(DECODERS["llama"], tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def converted_llama(llama, tmp_path_factory) -> ModelHandle:
    return convert(llama, tmp_path_factory.mktemp("converted") / "model.onnx")


@pytest.fixture
def pair(llama, converted_llama, context):
    """The model, open in PyTorch, and what becomes of it, open in ONNX Runtime."""
    fused = fuse(converted_llama, context).model
    with open_source(llama) as source, context.open(fused, {}) as made:
        yield source, made


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    pads=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_texts_that_come_in_parts_and_are_padded_on_either_side_get_the_logits_of_pytorch(pair, parts, pads, seed):
    """A prompt at once or in chunks, then token by token; each model gets what it has kept itself."""
    place = np.arange(sum(parts))
    mask = np.array([place >= pad if before else place < max(1, len(place) - pad) for pad, before in pads], np.int64)
    ids = np.random.default_rng(seed).integers(0, 60, mask.shape)
    kept = [{}, {}]
    for count, end in zip(parts, np.cumsum(parts), strict=True):
        new = slice(end - count, end)
        feeds = {"input_ids": ids[:, new], "attention_mask": mask[:, :end]}
        expected, got = (session.run({**feeds, **past}) for session, past in zip(pair, kept, strict=True))
        counted = mask[:, new] == 1
        np.testing.assert_allclose(got["logits"][counted], expected["logits"][counted], rtol=1e-3, atol=1e-3)
        kept = [
            {name.replace("present", "past_key_values"): each for name, each in found.items() if name != "logits"}
            for found in (expected, got)
        ]


def test_attention_with_a_cache_is_grouped_unless_told_otherwise(converted_llama, context):
    off = {"optimization_options": {"enable_attention": False}}

    found = [fuse(converted_llama, context, **options).report["fused"] for options in ({}, {"use_gqa": False}, off)]

    assert [each.get("GroupQueryAttention", 0) for each in found] == [2, 0, 0]


def test_rotary_embeddings_stay_as_they_are_if_told_so(converted_llama, context):
    fused = fuse(converted_llama, context, optimization_options={"enable_rotary_embeddings": False}).report["fused"]

    assert (fused.get("RotaryEmbedding", 0), fused["GroupQueryAttention"]) == (0, 2)


def test_heads_of_keys_and_values_that_the_graph_has_not_are_refused(converted_llama, context):
    unstated = converted_llama.with_(attributes={**converted_llama.attributes, "num_key_value_heads": None})

    with pytest.raises(PreconditionFailed) as failure:
        fuse(unstated, context, num_key_value_heads=4)

    assert failure.value.message == "num_key_value_heads: 4 is written, and the graph keeps 2"
    assert failure.value.hint == "leave num_key_value_heads out"


def test_an_onnx_runtime_without_that_operator_leaves_attention_as_it_is_or_says_so(
    converted_llama, context, monkeypatch
):
    monkeypatch.setattr(grouped, "PROBE", grouped.PROBE.replace("news)", "news, x)"))
    monkeypatch.setattr(grouped, "is_installed", grouped.is_installed.__wrapped__)

    assert "GroupQueryAttention" not in fuse(converted_llama, context).report["fused"]
    with pytest.raises(PreconditionFailed) as failure:
        fuse(converted_llama, context, use_gqa=True)

    assert failure.value.message == (
        "use_gqa: the installed ONNX Runtime's GroupQueryAttention takes no attention_bias and query_seqlens"
    )
    assert failure.value.hint == "install a newer onnxruntime"


@pytest.mark.parametrize("opset", [13, 20])
def test_graphs_of_every_opset_are_fused(opset, llama, context, tmp_path):
    result = fuse(convert(llama, tmp_path / "model.onnx", opset), context)

    assert result.report["fused"]["GroupQueryAttention"] == 2


def test_a_fused_decoder_in_half_precision_computes_nearly_the_same(converted_llama, context):
    assert fuse(converted_llama, context, float16=True).report["fused"]["GroupQueryAttention"] == 2


@pytest.mark.parametrize("quantizer", [OnnxMatMul4Quantizer, OnnxDynamicQuantization])
def test_a_fused_decoder_can_be_quantized_and_stays_near(quantizer, converted_llama, context, tmp_path):
    fused = fuse(converted_llama, context).model
    (tmp_path / "quantized").mkdir()

    made = quantizer(quantizer.Config()).run(fused, dataclasses.replace(context, folder=tmp_path / "quantized")).model

    feeds = {"input_ids": np.random.default_rng(0).integers(0, 60, (1, 24))}
    with context.open(fused, {}) as before, context.open(made, {}) as after:
        expected, got = before.run(feeds)["logits"], after.run(feeds)["logits"]
    assert node_counts(load(made.path))["GroupQueryAttention"] == 2
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.9


DECODER = """<ir_version: 9, opset_import: ["" : 17, "com.microsoft" : 1]>
    decode (float[batch_size, s, 32] x, int64[batch_size, total] attention_mask,
            float[batch_size, 4, past, 8] past_key, float[batch_size, 4, past, 8] past_value)
        => (float[batch_size, s, 32] y, float[batch_size, 4, total, 8] key, float[batch_size, 4, total, 8] value)
    <int64[2] axes = {1, 2}, float one = {1}, float low = {-10000}>
    {
        mask = Cast<to = 1>(attention_mask)
        hidden = Sub(one, mask)
        lowered = Mul(hidden, low)
        bias = Unsqueeze(lowered, axes)
        y, key, value = com.microsoft.MultiHeadAttention<num_heads = 4, unidirectional = 1>
            (x, x, x, , , bias, past_key, past_value)
    }"""


def test_multi_head_attention_with_a_cache_is_grouped_and_computes_the_same_of_padded_rows(context, tmp_path):
    onnx.save(onnx.parser.parse_model(DECODER), str(tmp_path / "decoder.onnx"))
    like = ModelHandle(type="ONNXModel", path=tmp_path, files=(), attributes={"model_type": "gpt2"})
    model = handle_of(tmp_path / "decoder.onnx", like=like)

    result = fuse(model, context)

    assert result.report["fused"] == {"GroupQueryAttention": 1}
    random = np.random.default_rng(0)
    feeds = {
        "x": random.standard_normal((3, 1, 32), dtype=np.float32),
        "attention_mask": np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1]]),
        "past_key": random.standard_normal((3, 4, 5, 8), dtype=np.float32),
        "past_value": random.standard_normal((3, 4, 5, 8), dtype=np.float32),
    }
    with context.open(model, {}) as source, context.open(result.model, {}) as candidate:
        expected, got = source.run(feeds), candidate.run(feeds)
    for name in ("y", "key", "value"):
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5)

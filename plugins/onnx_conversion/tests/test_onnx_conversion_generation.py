"""Models that write text: one ONNX graph for prompts and for single tokens, against transformers' own ``generate``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from hfopt import ModelHandle, PreconditionFailed
from hfopt.api.example import MASK
from hfopt.testing import validate
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.io_config import IoConfig
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_conversion.generation import compare, write
from hfopt_onnx_model.generating import following, greedy

ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {"vocab_size": 60, "max_position_embeddings": 128, "hidden_size": 32, "intermediate_size": 64, **ENDS}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, **LAYERS, "num_key_value_heads": 2}
GPT = {"vocab_size": 60, "n_layer": 2, "n_head": 4, **ENDS}
ARCHITECTURES = {
    "gpt2": transformers.GPT2Config(**GPT, n_embd=32, n_positions=128),
    "llama": transformers.LlamaConfig(**GROUPED),
    "qwen2": transformers.Qwen2Config(**GROUPED),
    "qwen3": transformers.Qwen3Config(**GROUPED, head_dim=16),
    "mistral with a window": transformers.MistralConfig(**GROUPED, head_dim=8, sliding_window=8),
    "gemma": transformers.GemmaConfig(**GROUPED, head_dim=16),
    "phi": transformers.PhiConfig(**SIZES, **LAYERS),
    "opt": transformers.OPTConfig(
        **ENDS, **LAYERS, vocab_size=60, hidden_size=32, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=128
    ),
    "gpt_neox": transformers.GPTNeoXConfig(**SIZES, **LAYERS),
    "bloom": transformers.BloomConfig(**GPT, hidden_size=32),
    "falcon": transformers.FalconConfig(**LAYERS, **ENDS, vocab_size=60, hidden_size=32),
}


def saved(config, folder: Path) -> Path:
    """A model of random weights, whose texts vary."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(folder)
    return folder


def described(folder, **hf_config) -> ModelHandle:
    config = PyTorchModelConfig(model_path=str(folder), hf_config=hf_config or {"task": "text-generation"})
    return PyTorchModel(config).fetch(None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_graph_computes_and_writes_what_the_pytorch_model_does(convert, name, tmp_path):
    handle = described(saved(ARCHITECTURES[name], tmp_path / "model"))

    result = convert(handle, tmp_path / "made")

    assert "warning" not in result.report
    assert result.report["parity"]["agree"]
    assert {"logits", "present.0.key", "present.1.value"} <= result.report["parity"]["outputs"].keys()
    assert result.report["generated"] == {"equal": 96, "of": 96}


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return saved(ARCHITECTURES["llama"], tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def converted(convert, llama, tmp_path_factory) -> ModelHandle:
    return convert(described(llama), tmp_path_factory.mktemp("converted") / "made").model


def test_the_other_exporter_keeps_a_past_under_the_same_names(convert, llama, converted, tmp_path):
    result = convert(described(llama), tmp_path / "made", use_dynamo_exporter=True)

    assert result.report["generated"] == {"equal": 96, "of": 96}
    assert [spec.name for spec in result.model.inputs] == [spec.name for spec in converted.inputs]
    assert [spec.name for spec in result.model.outputs] == [spec.name for spec in converted.outputs]


def test_inputs_and_outputs_have_the_names_and_axes_that_optimum_gives_them(converted):
    both = "past_sequence_length + sequence_length"
    shapes = {spec.name: spec.axes for spec in (*converted.inputs, *converted.outputs)}

    assert shapes["input_ids"] == shapes["position_ids"] == ("batch_size", "sequence_length")
    assert shapes["attention_mask"] == ("batch_size", both)
    assert shapes["past_key_values.1.value"] == ("batch_size", 2, "past_sequence_length", 8)
    assert shapes["logits"] == ("batch_size", "sequence_length", 60)
    assert shapes["present.1.value"] == ("batch_size", 2, both, 8)


def test_genai_is_told_sizes_and_names(converted):
    (file,) = (file for file in converted.companions if file.name == "genai_config.json")
    told = json.loads(file.read_text())

    decoder = told["model"].pop("decoder")
    assert told["model"] == {"type": "decoder", "vocab_size": 60, "context_length": 128, **ENDS}
    assert told["search"] == {"past_present_share_buffer": False, "max_length": 128}
    assert (decoder["head_size"], decoder["num_key_value_heads"], decoder["num_hidden_layers"]) == (8, 2, 2)
    assert decoder["inputs"]["past_key_names"] == "past_key_values.%d.key"
    assert decoder["outputs"]["present_value_names"] == "present.%d.value"


def test_a_loop_over_onnxruntime_alone_writes_what_generate_writes(llama, converted):
    model = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    session = onnxruntime.InferenceSession(str(converted.path))
    prompt = torch.tensor([[5, 17, 33, 8]])
    expected = model.generate(prompt, do_sample=False, min_new_tokens=20, max_new_tokens=20, eos_token_id=None)
    past = {
        each.name: np.zeros((1, 2, 0, 8), np.float32)
        for each in session.get_inputs()
        if each.name.startswith("past_key_values")
    }
    written, ids = prompt.tolist()[0], prompt.numpy()
    for _ in range(20):
        positions = np.arange(len(written))[None, -ids.shape[1] :]
        mask = np.ones((1, len(written)), np.int64)
        logits, *present = session.run(
            None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}
        )
        past = dict(zip(past, present, strict=True))
        written.append(int(logits[0, -1].argmax()))
        ids = np.array([written[-1:]])

    assert written == expected.tolist()[0]


def test_what_the_data_lack_is_filled_in_alike_by_both_sessions(open_model, llama, converted):
    ids = np.array([[0, 0, 7, 8], [3, 4, 5, 6]])
    feeds = {"input_ids": ids, "attention_mask": np.array([[0, 0, 1, 1], [1, 1, 1, 1]])}
    with open_model(described(llama), {}) as source, open_model(converted, {}) as made:
        before, after = source.run(feeds), made.run(feeds)
        alone = made.run({"input_ids": ids[:1, 2:]})

    counts = feeds["attention_mask"] == 1
    np.testing.assert_allclose(after["logits"][counts], before["logits"][counts], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after["logits"][:1, 2:], alone["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "hf_config",
    [
        {"task": "text-generation", "feature": "causal-lm"},
        {"task": "text-generation", "from_pretrained_args": {"use_cache": False}},
        {"model_class": "LlamaForCausalLM"},
    ],
)
def test_a_model_that_is_to_keep_nothing_returns_logits_alone_and_writes_the_same(
    convert, open_model, hf_config, llama, converted, tmp_path
):
    made = convert(described(llama, **hf_config), tmp_path / "made").model

    assert [spec.name for spec in made.inputs] == ["input_ids", "attention_mask"]
    assert [spec.name for spec in made.outputs] == ["logits"]
    feeds = {"input_ids": np.array([[5, 17, 33, 8]]), MASK: np.ones((1, 4), np.int64)}
    with open_model(made, {}) as without, open_model(converted, {}) as keeping:
        assert greedy(without, feeds, 8).tolist() == greedy(keeping, feeds, 8).tolist()


@pytest.mark.parametrize("feature", ["causal-lm-with-past", "causal-lm"])
def test_the_token_after_a_text_is_run_alone_if_the_model_keeps_the_text(open_model, feature, llama, converted):
    handle = described(llama, model_class="LlamaForCausalLM", feature=feature)
    text = {"input_ids": np.array([[0, 17, 33, 8], [5, 6, 7, 9]]), MASK: np.array([[0, 1, 1, 1], [1] * 4])}

    with open_model(handle, {}) as session, open_model(converted, {}) as made:
        found = session.run(text)
        after = following(text, found)
        next_logits = session.run(after)["logits"][:, -1]
        session.bind_next(text)()

        made.bind_next(text)()
        token = found["logits"][:, -1].argmax(-1)[:, None]
        whole = {name: np.append(text[name], last, axis=1) for name, last in (("input_ids", token), (MASK, token**0))}
        expected = made.run(whole)["logits"][:, -1]

    assert after["input_ids"].shape == ((2, 1) if feature.endswith("with-past") else (2, 5))
    np.testing.assert_allclose(next_logits, expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_returns_no_logits_writes_no_text():
    with pytest.raises(PreconditionFailed) as failure:
        following({"input_ids": np.ones((1, 4), np.int64)}, {"last_hidden_state": np.zeros((1, 4, 8))})

    assert failure.value.message == "it does not write text: that takes input_ids, and returns logits of every token"


def test_the_feature_asks_for_what_is_kept_where_there_is_no_task(llama):
    asked = described(llama, model_class="LlamaForCausalLM", feature="causal-lm-with-past")

    assert asked.inputs == described(llama).inputs


def test_tokens_after_one_that_differs_do_not_count_as_equal(open_model, llama, converted):
    with open_model(described(llama), {}) as source:
        written = write(source, described(llama))
    written.tokens[1, 3] += 1
    with open_model(converted, {}) as made:
        assert compare(written, made) == {"equal": 96 - 29, "of": 96}


TOKENS, TOTAL = {"0": "rows", "1": "tokens"}, {"0": "rows", "1": "total_sequence_length"}
NAMED = {
    "input_names": ["input_ids", "attention_mask", "position_ids"],
    "output_names": ["logits"],
    "input_shapes": [[2, 8], [2, 40], [2, 8]],
    "input_types": ["int32", "int32", "int32"],
    "dynamic_axes": {"input_ids": TOKENS, "attention_mask": TOTAL, "position_ids": TOKENS},
    "kv_cache": True,
}
"""As Olive's examples of Llama write it."""


def named(folder: Path, **changes) -> ModelHandle:
    options = {"model_path": str(folder), "hf_config": {"task": "text-generation"}, "io_config": {**NAMED, **changes}}
    return PyTorchModel(PyTorchModelConfig.model_validate_json(json.dumps(options))).fetch(None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"input_shapes": None, "input_types": None},
        {"kv_cache": {"past_sequence_length": 32, "ort_past_key_name": "past_key_values.<id>.key", "world_size": 1}},
    ],
    ids=["shapes", "without shapes", "options"],
)
def test_a_cache_that_io_config_asks_for_is_taken_and_returned(changes, llama, convert, tmp_path):
    result = convert(named(llama, **changes), tmp_path / "made")

    taken = {spec.name: (spec.dtype, spec.axes) for spec in result.model.inputs}
    assert taken["input_ids"] == ("int32" if "input_types" not in changes else "int64", ("rows", "tokens"))
    assert taken["past_key_values.1.key"] == ("float32", ("rows", 2, "past_sequence_length", 8))
    assert {"logits", "present.0.key", "present.1.value"} <= result.report["parity"]["outputs"].keys()
    assert "warning" not in result.report
    assert result.report["generated"] == {"equal": 96, "of": 96}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input_shapes": [[2, 8], [2, 8], [2, 8]]},
            "kv_cache: attention_mask has 8 tokens in input_shapes, and input_ids 8",
        ),
        (
            {"input_names": ["inputs_embeds"], "input_shapes": [[2, 8, 32]], "input_types": None},
            "kv_cache: the model is not known to keep keys and values of earlier tokens",
        ),
    ],
)
def test_a_cache_that_does_not_fit_the_inputs_is_refused(changes, message, llama):
    with pytest.raises(PreconditionFailed) as failure:
        named(llama, **changes)

    assert failure.value.message == message


def test_names_of_the_cache_are_optimums(tmp_path):
    problems = []

    validate(IoConfig, {**NAMED, "kv_cache": {"ort_past_key_name": "past_key_<id>"}}, (), problems)

    (problem,) = problems
    assert problem.path == ("kv_cache", "ort_past_key_name")
    assert problem.message == (
        "keys and values are called past_key_values.<id>.key and present.<id>.key, as optimum calls them"
    )

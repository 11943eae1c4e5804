"""Encoder-decoder models: three graphs with optimum's names, against transformers' own ``generate``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from hfopt import ModelHandle, PreconditionFailed
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_model.composite import CompositeModel
from hfopt_onnx_model.generating import DECODER_IDS, greedy
from hfopt_onnx_model.loader import ONNXModel

SPEECH = "automatic-speech-recognition"
SIZES = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 12, "d_ff": 37, "num_layers": 2, "num_heads": 4}
ARCHITECTURES = {
    "t5": transformers.T5Config(**T5, decoder_start_token_id=0),
    "bart": transformers.BartConfig(**SIZES, max_position_embeddings=64),
    "whisper": transformers.WhisperConfig(
        **SIZES, num_mel_bins=8, max_source_positions=30, max_target_positions=64, begin_suppress_tokens=None
    ),
}
LOADERS = {"PyTorchModel": PyTorchModel, "ONNXModel": ONNXModel, "CompositeModel": CompositeModel}


def saved(name: str, folder: Path) -> Path:
    """A model of random weights, whose texts vary."""
    auto = transformers.AutoModelForSpeechSeq2Seq if name == "whisper" else transformers.AutoModelForSeq2SeqLM
    torch.manual_seed(0)
    model = auto.from_config(ARCHITECTURES[name]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(folder)
    return folder


def described(folder, **hf_config) -> ModelHandle:
    config = PyTorchModelConfig(model_path=str(folder), hf_config=hf_config)
    return PyTorchModel(config).fetch(None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_part_computes_and_all_write_what_the_pytorch_model_does(convert, name, tmp_path):
    task = SPEECH if name == "whisper" else "text2text-generation"
    handle = described(saved(name, tmp_path / "model"), task=task)

    result = convert(handle, tmp_path / "made")

    assert "warning" not in result.report
    parity = {part: report["parity"] for part, report in result.report["components"].items()}
    assert all(each["agree"] for each in parity.values())
    assert {part: {*each["outputs"]} for part, each in parity.items()} == {
        "encoder_model": {"last_hidden_state"},
        "decoder_model": {"logits", *names("present", "decoder", "encoder")},
        "decoder_with_past_model": {"logits", *names("present", "decoder")},
    }
    assert result.report["generated"] == {"equal": 96, "of": 96}


def names(first: str, *sides: str) -> list[str]:
    return [f"{first}.{layer}.{side}.{kind}" for layer in (0, 1) for side in sides for kind in ("key", "value")]


@pytest.fixture(scope="module")
def bart(tmp_path_factory) -> Path:
    return saved("bart", tmp_path_factory.mktemp("bart") / "model")


@pytest.fixture(scope="module")
def converted(convert, bart, tmp_path_factory) -> ModelHandle:
    return convert(described(bart, task="summarization"), tmp_path_factory.mktemp("converted") / "made").model


def test_files_inputs_and_axes_have_the_names_that_optimum_gives_them(converted):
    assert {name: part.path.name for name, part in converted.components.items()} == {
        "encoder_model": "encoder_model.onnx",
        "decoder_model": "decoder_model.onnx",
        "decoder_with_past_model": "decoder_with_past_model.onnx",
    }
    inputs = {part: [spec.name for spec in each.inputs] for part, each in converted.components.items()}
    assert inputs == {
        "encoder_model": ["input_ids", "attention_mask"],
        "decoder_model": ["input_ids", "encoder_attention_mask", "encoder_hidden_states"],
        "decoder_with_past_model": [
            *("input_ids", "encoder_attention_mask"),
            *names("past_key_values", "decoder", "encoder"),
        ],
    }
    later = converted.components["decoder_with_past_model"]
    shapes = {spec.name: spec.axes for spec in (*later.inputs, *later.outputs)}
    assert shapes["past_key_values.1.decoder.key"] == ("batch_size", 4, "past_sequence_length", 8)
    assert shapes["past_key_values.1.encoder.value"] == ("batch_size", 4, "encoder_sequence_length", 8)
    grown = "past_sequence_length + decoder_sequence_length"
    assert shapes["present.1.decoder.key"] == ("batch_size", 4, grown, 8)


def test_a_loop_over_onnxruntime_alone_writes_what_generate_writes(bart, converted):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(bart).eval()
    prompt, mask = np.array([[5, 17, 33, 8], [9, 4, 1, 1]]), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = model.generate(
        torch.from_numpy(prompt),
        attention_mask=torch.from_numpy(mask),
        **{"do_sample": False, "num_beams": 1, "min_new_tokens": 20, "max_new_tokens": 20},
        **{"eos_token_id": None, "forced_eos_token_id": None},
    )

    def run(part: str, **feeds):
        session = onnxruntime.InferenceSession(str(converted.components[part].path))
        outputs = [each.name for each in session.get_outputs()]
        return dict(zip(outputs, session.run(None, feeds), strict=True))

    states = run("encoder_model", input_ids=prompt, attention_mask=mask)["last_hidden_state"]
    written = np.full((2, 1), 2)
    found = run("decoder_model", input_ids=written, encoder_attention_mask=mask, encoder_hidden_states=states)
    past = {}
    for _ in range(20):
        past |= {name.replace("present", "past_key_values"): each for name, each in found.items() if "." in name}
        written = np.concatenate([written, found["logits"][:, -1:].argmax(-1)], axis=1)
        found = run("decoder_with_past_model", input_ids=written[:, -1:], encoder_attention_mask=mask, **past)

    assert written.tolist() == expected.tolist()


def test_the_parts_as_one_session_are_the_whole_model_with_and_without_a_past(open_model, bart, converted):
    feeds = {"input_ids": np.array([[5, 17, 33, 8]]), DECODER_IDS: np.array([[2, 7]])}
    with open_model(described(bart, task="summarization"), {}) as whole, open_model(converted, {}) as parts:
        np.testing.assert_allclose(parts.run(feeds)["logits"], whole.run(feeds)["logits"], rtol=1e-4, atol=1e-4)
        assert [spec.name for spec in parts.inputs] == [spec.name for spec in whole.inputs]
        assert greedy(parts, feeds, 8).tolist() == greedy(whole, feeds, 8).tolist()
        parts.bind_next(feeds)()


@pytest.mark.parametrize(
    "hf_config",
    [
        {"task": "summarization", "feature": "seq2seq-lm"},
        {"task": "summarization", "from_pretrained_args": {"use_cache": False}},
        {"model_class": "BartForConditionalGeneration"},
    ],
)
def test_a_model_that_is_to_keep_nothing_is_one_graph(convert, hf_config, bart, tmp_path):
    made = convert(described(bart, **hf_config), tmp_path / "made").model

    assert [spec.name for spec in made.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]
    assert made.components == {}


def test_the_feature_asks_for_parts_where_there_is_no_task(bart):
    asked = described(bart, model_class="BartForConditionalGeneration", feature="seq2seq-lm-with-past")

    assert {name: part.inputs for name, part in asked.components.items()} == {
        name: part.inputs for name, part in described(bart, task="translation").components.items()
    }


def test_a_mask_of_sound_is_refused_in_a_sentence(tmp_path):
    config = transformers.Speech2TextConfig(**SIZES, max_source_positions=64, max_target_positions=64)
    transformers.Speech2TextForConditionalGeneration(config).save_pretrained(tmp_path)

    with pytest.raises(PreconditionFailed) as refused:
        described(tmp_path, task=SPEECH)

    assert refused.value.message == (
        "the mask of Speech2TextForConditionalGeneration is not of its encoder's states: parts of it can't read it"
    )
    assert refused.value.hint == "write feature: speech2seq-lm in hf_config for a model without what it keeps"

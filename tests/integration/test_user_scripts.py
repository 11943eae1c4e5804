"""What docs/how-to/user-scripts.md shows, run to a result whose numbers are PyTorch's."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "user-scripts.md"
CONVERSION = {"conversion": {"type": "OnnxConversion"}}
INT8 = {"int8": {"type": "OnnxDynamicQuantization"}}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def section(heading: str) -> tuple[dict, str]:
    """The config and the script below a heading of the page."""
    text = PAGE.read_text().partition(f"## {heading}\n")[2]
    config, script = re.search(r"```json\n(.*?)```.*?```python\n(.*?)```", text, re.DOTALL).groups()
    return json.loads(config), script


@pytest.fixture
def run(tmp_path):
    """Runs a section's config, with passes, in a folder of its own; expects an exit code."""

    def go(config, passes, code=0):
        (tmp_path / "config.json").write_text(json.dumps({**config, "passes": passes}))
        command = [sys.executable, "-m", "hfopt", "run", "config.json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stderr

    return go


def module(folder: Path):
    """The script, as Python loads it."""
    spec = importlib.util.spec_from_file_location("script_of_the_page", folder / "user_script.py")
    found = importlib.util.module_from_spec(spec)
    vars(found).update(dict.fromkeys(("LoadedModel", "OliveModelHandler", "PyTorchModelHandler")))
    spec.loader.exec_module(found)
    return found


def outputs(session, **feeds) -> dict:
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))


def reports(folder: Path, component: str) -> list[dict]:
    found = [json.loads(file.read_text()) for file in folder.glob(".hfopt-cache/artifacts/*/*/manifest.json")]
    return [each["report"] for each in found if each["component"].endswith(component)]


@pytest.fixture
def classifier(tmp_path):
    """The section's model, with weights of its own."""
    config, script = section("A model that is not of Hugging Face's")
    (tmp_path / "user_script.py").write_text(script)
    torch.manual_seed(3)
    model = module(tmp_path).Classifier().eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return config, model


def test_a_model_that_is_not_of_hugging_face_computes_what_its_module_does_at_any_size(run, tmp_path, classifier):
    config, model = classifier

    run(config, CONVERSION)

    session = onnxruntime.InferenceSession(tmp_path / "hfopt-output" / "best" / "model.onnx")
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        ("scores", ["batch", "time", 5]),
        ("state", ["batch", 16]),
    ]
    for batch, time in ((1, 20), (3, 7), (5, 33)):
        signal, gain = torch.randn(batch, 4, time), torch.randn(batch)
        scores, state = session.run(None, {"signal": signal.numpy(), "gain": gain.numpy()})
        with torch.no_grad():
            expected, more = model(signal, gain)
        np.testing.assert_allclose(scores, expected.numpy(), **TOLERANCE)
        np.testing.assert_allclose(state, more["last"].numpy(), **TOLERANCE)


def test_its_weights_become_integers(run, tmp_path, classifier):
    config, model = classifier

    run(config, CONVERSION | INT8)

    session = onnxruntime.InferenceSession(tmp_path / "hfopt-output" / "best" / "model.onnx")
    signal, gain = torch.randn(2, 4, 12), torch.ones(2)
    scores, _ = session.run(None, {"signal": signal.numpy(), "gain": gain.numpy()})
    with torch.no_grad():
        expected = model(signal, gain)[0].numpy()
    assert 0 < np.abs(scores - expected).mean() < 0.05 * np.abs(expected).mean()


def test_an_edited_script_makes_its_model_anew_and_an_unchanged_one_nothing(run, tmp_path, classifier):
    config, _ = classifier
    made = []
    script = tmp_path / "user_script.py"
    for before, after in ((" ", " "), (" ", " "), ("self.head(hidden)", "2 * self.head(hidden)")):
        script.write_text(script.read_text().replace(before, after))
        run(config, CONVERSION)
        made.append(len(reports(tmp_path, "OnnxConversion")))

    assert made == [1, 1, 2]


def test_inputs_and_outputs_of_ones_own_of_a_llama(run, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config, script = section("Inputs and outputs of one's own")
    (tmp_path / "user_script.py").write_text(script)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, max_position_embeddings=64, **sizes)).eval()
    model.save_pretrained(tmp_path / "meta-llama" / "Llama-2-7b-hf")

    run(config, CONVERSION)

    session = onnxruntime.InferenceSession(tmp_path / "hfopt-output" / "best" / "model.onnx")
    assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        ("logits", ["batch_size", "sequence_length", 50])
    ]
    for shape in ((1, 5), (3, 19)):
        ids, mask = torch.randint(50, shape), torch.ones(shape, dtype=torch.int64)
        (logits,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, model(ids, attention_mask=mask).logits.numpy(), **TOLERANCE)


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    counts = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    lengths = {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 32}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=60, **widths, **counts, **lengths, **special))
    folder = tmp_path_factory.mktemp("whisper")
    model.eval().save_pretrained(folder / "openai" / "whisper-medium")
    return model, folder


@pytest.fixture
def components(tmp_path, whisper):
    """The section's config and script beside a small whisper."""
    model, folder = whisper
    config, script = section("Custom components")
    (tmp_path / "user_script.py").write_text(script)
    (tmp_path / "openai").symlink_to(folder / "openai")
    return config, model


def test_components_are_exported_each_like_its_own_module_and_write_what_whisper_writes(run, tmp_path, components):
    config, model = components

    run(config, CONVERSION)

    best = tmp_path / "hfopt-output" / "best"
    (report,) = reports(tmp_path, "OnnxConversion")
    assert {name: each["parity"]["agree"] for name, each in report["components"].items()} == {
        "encoder_decoder_init": True,
        "decoder": True,
    }
    first = onnxruntime.InferenceSession(best / "encoder_decoder_init.onnx")
    later = onnxruntime.InferenceSession(best / "decoder.onnx")
    features = torch.randn(2, 8, 40)
    steps = {"max_new_tokens": 10, "min_new_tokens": 10}  # the first: none may be the end
    with torch.no_grad():
        expected = model.generate(features, do_sample=False, suppress_tokens=None, begin_suppress_tokens=None, **steps)
    tokens = [np.full((2, 1), 1, dtype=np.int64)]
    found = outputs(first, input_features=features.numpy(), decoder_input_ids=tokens[0])
    past = {}
    for _ in range(10):
        past |= {name.replace("present", "past"): value for name, value in found.items() if name != "logits"}
        scores = found["logits"][:, -1].copy()
        scores[:, 2] = -np.inf
        tokens.append(scores.argmax(-1)[:, None])
        found = outputs(later, decoder_input_ids=tokens[-1], **past)
    assert np.concatenate(tokens[1:], axis=1).tolist() == expected[:, -10:].tolist()


def test_passes_run_on_each_component_and_all_are_saved(run, tmp_path, components):
    config, _ = components
    fusion = {
        "type": "OrtTransformersOptimization",
        "config": {"model_type": "bart", "num_heads": 2, "hidden_size": 16},
    }
    size = {"evaluators": {"e": {"metrics": [{"name": "size", "type": "size"}]}}, "engine": {"evaluator": "e"}}

    run({**config, **size}, {**CONVERSION, "fusion": fusion, **INT8})

    (fused,), (quantized,) = (
        reports(tmp_path, "OrtTransformersOptimization"),
        reports(tmp_path, "OnnxDynamicQuantization"),
    )
    for name in ("encoder_decoder_init", "decoder"):
        assert fused["components"][name]["fused"]["SkipLayerNormalization"] > 0
        assert quantized["components"][name]["quantized"]["MatMulInteger"] > 0
        onnxruntime.InferenceSession(tmp_path / "hfopt-output" / "best" / f"{name}.onnx")


def test_a_whole_model_in_a_file_needs_no_script_where_io_config_says_what_it_takes(run, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    torch.jit.trace(model, torch.rand(1, 3, 8, 8)).save(tmp_path / "model.pt")
    batch = {"0": "batch_size"}
    names = {"input_names": ["image"], "input_shapes": [[1, 3, 8, 8]], "output_names": ["scores"]}
    io_config = {**names, "dynamic_axes": {"image": batch, "scores": batch}}
    options = {"model_path": "model.pt", "model_file_format": "PyTorch.TorchScript", "io_config": io_config}

    run({"input_model": {"type": "PyTorchModel", "config": options}}, CONVERSION)

    image = torch.rand(3, 3, 8, 8)
    session = onnxruntime.InferenceSession(tmp_path / "hfopt-output" / "best" / "model.onnx")
    np.testing.assert_allclose(outputs(session, image=image.numpy())["scores"], model(image).detach(), **TOLERANCE)

"""A corpus from the hub: a decoder is converted, quantized and tuned with it, and its perplexity measured."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hfopt_hf_hub.testing.hub import Hub

WORDS = ("good", "bad", "film", "plot", "actor", "scene", "dull", "bright", "slow", "quick", "the", "a", "of", "never")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "texts.md"
DATA = json.loads(PAGE.read_text().split("```json\n")[1].split("```")[0])
TUNING = {"type": "OrtPerfTuning", "config": {"data_config": "oasst1_train"}}
ACCURACY = {
    "name": "accuracy",
    "type": "accuracy",
    "backend": "huggingface_metrics",
    "data_config": "oasst1_train",
    "sub_types": [{"name": "accuracy", "priority": -1}, {"name": "f1"}],
}


def perplexity(**options) -> dict:
    sub_type = {"name": "perplexity", **options}
    return {"name": "texts", "type": "accuracy", "data_config": "oasst1_train", "sub_types": [sub_type]}


def texts(rows: int) -> list[str]:
    draw = random.Random(rows)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 30))) for _ in range(rows)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[Hub]:
    """Serves a small dataset under the seed's name, with its files' names."""
    lines = {name: "".join(json.dumps({"text": text}) + "\n" for text in texts(n)) for name, n in SPLITS.items()}
    with Hub(tmp_path_factory.mktemp("hub") / "huggingface") as served:
        files = {f"openassistant_best_replies_{name}.jsonl": text.encode() for name, text in lines.items()}
        served.add_dataset("timdettmers/openassistant-guanaco", files)
        yield served


SPLITS = {"train": 40, "eval": 5}


@pytest.fixture(scope="module", params=["GPT2LMHeadModel", "LlamaForCausalLM"])
def folder(request, tmp_path_factory) -> Path:
    """A folder with a decoder of random weights, whose predictions differ from token to token."""
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    place = tmp_path_factory.mktemp("decoder")
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts(300), vocab_size=320, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pairs._tokenizer, bos_token="<s>", eos_token="</s>"
    )
    shapes = {
        "GPT2LMHeadModel": transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=512),
        "LlamaForCausalLM": transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
        ),
    }
    config = shapes[request.param]
    config.vocab_size, config.bos_token_id, config.eos_token_id = len(tokenizer), 0, 1
    torch.manual_seed(0)
    model = getattr(transformers, request.param)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    (place / "class").write_text(request.param)
    return place


@pytest.fixture
def run_config(hub, folder):
    """Runs a config: exit code, messages, record."""

    def ran(config):
        (folder / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "hfopt", "run", "config.json"]
        environment = os.environ | dict(hub.environment)
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr, json.loads((folder / "out" / "run.json").read_text())

    return ran


@pytest.fixture
def run(run_config):
    """Runs passes with the seed's data."""

    def ran(metric, **passes):
        model = {"model_path": "model", "hf_config": {"task": "text-generation"}}
        return run_config(
            {
                "input_model": {"type": "PyTorchModel", "config": model},
                "data_configs": [DATA],
                "evaluators": {"quality": {"metrics": [metric]}},
                "passes": {"conversion": {"type": "OnnxConversion"}, **passes},
                "engine": {"evaluator": "quality", "output_dir": "out", "cache_dir": "cache"},
            }
        )

    return ran


def perplexity_by_torch(folder: Path) -> float:
    """Of the seed's data, by transformers and PyTorch alone."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    total, count = 0.0, 0
    for text in texts(SPLITS["train"]):
        ids = tokenizer(f"<s> {text} </s>", add_special_tokens=False, return_tensors="pt").input_ids[:, :512]
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return math.exp(total / count)


@pytest.mark.timeout(300)
def test_a_decoder_is_tuned_on_the_corpus_and_its_perplexity_is_pytorchs(run, folder):
    code, shown, record = run(perplexity(), perf_tuning=TUNING)

    assert code == 0, shown
    (result,) = record["results"]
    before, after = (model["metrics"]["texts-perplexity"] for model in (result["input_model"], result["candidates"][0]))
    assert before["value"] == pytest.approx(perplexity_by_torch(folder), rel=1e-6)
    assert after["value"] == pytest.approx(before["value"], rel=1e-5)
    assert before["low"] < before["value"] < before["high"]
    assert before["n"] == SPLITS["train"]
    assert before["higher_is_better"] is False


@pytest.mark.timeout(300)
def test_a_decoder_is_quantized_with_the_corpus(run, folder):
    metric = perplexity(goal={"type": "percent-max-degradation", "value": 20})
    static = {"type": "OnnxStaticQuantization", "config": {"data_config": "oasst1_train", "quant_format": "QDQ"}}

    code, shown, record = run(metric | {"backend": "huggingface_metrics"}, quantization=static)

    assert code == 0, shown
    candidate = record["results"][0]["candidates"][0]
    assert candidate["goals_met"] is True
    assert candidate["metrics"]["texts-perplexity"]["difference"]["value"] != 0


@pytest.mark.timeout(300)
def test_the_config_of_the_page_on_writing_text_runs(run_config, folder):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "write-text.md").read_text()
    config = json.loads(page.partition("```json\n")[2].partition("```")[0])
    config["evaluators"]["writing"]["metrics"][1]["sub_types"][0]["metric_config"] = {"repeat_test_num": 32}
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts(SPLITS["train"]))
    (folder / "texts.jsonl").write_text(lines)

    code, shown, record = run_config(config)

    assert code == 0, shown
    assert " 2 GroupQueryAttention" in shown
    found = record["results"][0]["candidates"][0]["metrics"]
    assert found["quality-perplexity"]["value"] == pytest.approx(perplexity_by_torch(folder), rel=0.1)
    for name in ("speed-ttft", "speed-tpot"):
        assert found[name]["unit"] == "ms"
        assert found[name]["speedup"]["low"] < found[name]["speedup"]["value"] < found[name]["speedup"]["high"]
    best = folder / "out" / "best"
    assert written_by_genai(best, [5, 17, 33, 8], 20) == written_by_onnxruntime(best, [5, 17, 33, 8], 20)


def written_by_genai(best: Path, prompt: list[int], count: int) -> list[int]:
    import onnxruntime_genai

    model = onnxruntime_genai.Model(str(best))
    options = onnxruntime_genai.GeneratorParams(model)
    length = len(prompt) + count
    options.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = onnxruntime_genai.Generator(model, options)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(prompt) :]]


def written_by_onnxruntime(best: Path, prompt: list[int], count: int) -> list[int]:
    """The same by the model alone, where an end of the text (token 1) is put off, too."""
    import numpy as np

    from hfopt import Accelerator
    from hfopt_onnx_model.generating import following
    from hfopt_onnx_model.loader import ONNXModel

    loader = ONNXModel(ONNXModel.Config(model_path=str(best)))
    tokens, feeds = [], {"input_ids": np.array([prompt])}
    with loader.open(loader.fetch(None), Accelerator(), {"threads": 1}) as session:
        for _ in range(count):
            found = session.run(feeds)
            found["logits"][..., 1] = -np.inf
            feeds = following(feeds, found)
            tokens.append(int(feeds["input_ids"][0, -1]))
    return tokens


@pytest.mark.timeout(300)
def test_the_seeds_metric_of_classes_says_why_it_has_no_meaning_there(run):
    code, shown, _ = run(ACCURACY)

    assert code not in (0, 2)
    assert (
        "the labels are the tokens of texts, which have no class that could be right or wrong: metrics such as "
        "accuracy have no meaning there"
    ) in shown
    assert "hint: perplexity measures how well a model predicts texts" in shown
    assert "Traceback" not in shown

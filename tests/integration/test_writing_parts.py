"""Models of several parts through a run, from PyTorch and from the parts as ONNX files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "load-models.md"
PARTS = ("encoder_model", "decoder_model", "decoder_with_past_model")
IDS = np.array([[5, 17, 33, 8], [9, 4, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
LENGTH = 12


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a small T5 of random weights, whose texts vary, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    place = tmp_path_factory.mktemp("project")
    words = {word: number for number, word in enumerate(["<pad>", "</s>", *map(str, range(2, 40))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(place / "path_to_local_model")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(place / "path_to_local_model")
    return place


def run(folder: Path, config: dict[str, Any]) -> Path:
    """Runs a config that measures sizes.

    :return: the folder of the best model
    """
    size = {"evaluators": {"e": {"metrics": [{"name": "size", "type": "size"}]}}}
    (folder / "config.json").write_text(json.dumps({**size, **config, "engine": {"evaluator": "e"}}))
    done = subprocess.run(
        [sys.executable, "-m", "hfopt", "run", "config.json"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "hfopt-output" / "best"


def operators(folder: Path) -> dict[str, set[str]]:
    return {name: {node.op_type for node in onnx.load(folder / f"{name}.onnx").graph.node} for name in PARTS}


def computed(file: Path, feeds: Mapping[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(file)
    outputs = [each.name for each in session.get_outputs()]
    return dict(zip(outputs, session.run(None, feeds), strict=True))


def written(folder: Path) -> list[list[int]]:
    """Greedy tokens, by ONNX Runtime alone."""
    states = computed(folder / "encoder_model.onnx", {"input_ids": IDS, "attention_mask": MASK})["last_hidden_state"]
    tokens, mask = np.zeros((2, 1), np.int64), {"encoder_attention_mask": MASK}
    found = computed(folder / "decoder_model.onnx", {"input_ids": tokens, "encoder_hidden_states": states, **mask})
    past: dict[str, Any] = {}
    for _ in range(LENGTH):
        past |= {name.replace("present", "past_key_values"): each for name, each in found.items() if "." in name}
        tokens = np.concatenate([tokens, found["logits"][:, -1:].argmax(-1)], axis=1)
        found = computed(folder / "decoder_with_past_model.onnx", {"input_ids": tokens[:, -1:], **mask, **past})
    return tokens.tolist()


def written_by_torch(folder: Path) -> list[list[int]]:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    lengths = {"min_new_tokens": LENGTH, "max_new_tokens": LENGTH, "eos_token_id": None}
    return model.generate(torch.tensor(IDS), attention_mask=torch.tensor(MASK), do_sample=False, **lengths).tolist()


def test_an_optimum_model_whose_files_are_lacking_is_exported_in_parts_that_write_what_pytorch_writes(tmp_path):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()
    model.save_pretrained(tmp_path / "acme" / "exported")
    page = PAGE.read_text().partition("## ONNX files that are there already\n")[2]
    config = json.loads(page.partition("```json\n")[2].partition("```")[0])
    passes = {"conversion": {"type": "OnnxConversion"}, "fusion": {"type": "OrtTransformersOptimization"}}

    best = run(tmp_path, {**config, "passes": passes})

    assert {file.name for file in best.glob("*.onnx")} == {"decoder_model.onnx", "decoder_with_past_model.onnx"}
    tokens, past, part = IDS[:1], {}, "decoder_model"
    for _ in range(LENGTH):
        kept = tokens.shape[1] if past else 0
        ids, positions = tokens[:, max(kept - 1, 0) :], np.arange(tokens.shape[1])[None, max(kept - 1, 0) :]
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(tokens), "position_ids": positions, **past}
        found = computed(best / f"{part}.onnx", feeds)
        past = {name.replace("present", "past_key_values"): each for name, each in found.items() if "." in name}
        tokens = np.concatenate([tokens, found["logits"][:, -1:].argmax(-1)], axis=1)
        part = "decoder_with_past_model"
    lengths = {"min_new_tokens": LENGTH, "max_new_tokens": LENGTH, "eos_token_id": None}
    expected = model.generate(torch.tensor(IDS[:1]), do_sample=False, pad_token_id=0, **lengths)
    assert tokens.tolist() == expected.tolist()


def test_a_model_goes_through_the_pages_passes_and_its_parts_go_on_as_a_composite_model(project):
    page = PAGE.read_text().partition("## Models that read a text, or sound, and write one\n")[2]
    config = json.loads(page.partition("```json\n")[2].partition("```")[0])
    config["passes"]["fusion"]["output_name"] = "fused"

    best = run(project, config)

    beside = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    files = {file.name for file in best.iterdir()}
    assert files == {f"{name}.onnx" for name in PARTS} | beside | {"README.md", "model.json"}
    assert all("MatMulInteger" in found for found in operators(best).values())
    fused = project / "hfopt-output" / "fused"
    assert all("SkipSimplifiedLayerNormalization" in found for found in operators(fused).values())
    assert written(fused) == written_by_torch(project / "path_to_local_model")

    parts = [{"type": "ONNXModel", "config": {"model_path": str(fused / f"{name}.onnx")}} for name in PARTS]
    composite = {"model_components": parts, "model_component_names": PARTS}
    int4 = {"type": "OnnxMatMul4Quantizer", "config": {"block_size": 16}, "output_name": "int4"}
    passes = {"int4": int4, "merging": {"type": "OptimumMerging"}}

    best = run(project, {"input_model": {"type": "CompositeModel", "config": composite}, "passes": passes})

    rounded = project / "hfopt-output" / "int4"
    assert all("MatMulNBits" in found for found in operators(rounded).values())
    feeds = {"input_ids": IDS[:1], "attention_mask": MASK[:1]}
    before, after = (computed(at / "encoder_model.onnx", feeds)["last_hidden_state"] for at in (fused, rounded))
    assert np.sum(before * after) / np.linalg.norm(before) / np.linalg.norm(after) > 0.9
    merged = [best / name for name in ("encoder_model.onnx", "decoder_model_merged.onnx")]
    assert sorted(best.glob("*.onnx")) == sorted(merged)
    assert "MatMulNBits" in {node.op_type for node in nodes(merged[1])}
    record = json.loads((best.parent / "run.json").read_text())["results"][0]
    sizes = [each["metrics"]["size-bytes"]["value"] for each in (record["input_model"], record["candidates"][0])]
    assert sizes == [sum(file.stat().st_size for file in files) for files in (fused.glob("*.onnx"), merged)]


def nodes(file: Path) -> Iterator[Any]:
    """Of a graph and its branches."""
    for node in onnx.load(file).graph.node:
        yield node
        for attribute in node.attribute:
            yield from attribute.g.node

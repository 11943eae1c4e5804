"""Runs in which optimum-onnx, in an environment that hfopt makes, exports models that passes here go on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3000)]

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "optimum.md"
PARTS = ("encoder_model", "decoder_model", "decoder_with_past_model")
IDS = np.array([[5, 17, 33, 8], [9, 4, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
LENGTH = 12
SIZE = {"e": {"metrics": [{"name": "size", "type": "size"}]}}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a small T5 whose texts vary, and a small BERT, both of random weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, T5Config, T5ForConditionalGeneration

    place = tmp_path_factory.mktemp("project")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(place / "path_to_local_model")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    BertForSequenceClassification(BertConfig(vocab_size=40, **sizes)).save_pretrained(place / "bert")
    return place


@pytest.fixture(scope="module")
def run(project):
    """Runs a config in the folder; the first run makes the environment."""
    environment = {**os.environ, "HF_HUB_OFFLINE": ""}

    def run_config(config: Mapping[str, Any], *arguments: str, **engine: str) -> subprocess.CompletedProcess[str]:
        whole = {"evaluators": SIZE, **config, "engine": {"evaluator": "e", **engine}}
        (project / "config.json").write_text(json.dumps(whole))
        command = [sys.executable, "-m", "hfopt", "run", "config.json", *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)

    return run_config


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    return json.loads(PAGE.read_text().partition("```json\n")[2].partition("```")[0])


@pytest.fixture(scope="module")
def first(run, page) -> subprocess.CompletedProcess[str]:
    """The page's config."""
    return run(page)


@pytest.fixture(scope="module")
def convert(run, first, project):
    """Exports a model with options of the pass.

    :return: its folder
    """

    def run_options(model: str, task: str, **options: Any) -> Path:
        source = {"model_path": model, "hf_config": {"task": task}}
        config = {"input_model": {"type": "PyTorchModel", "config": source}}
        done = run({**config, "passes": {"conversion": {"type": "OptimumConversion", "config": options}}})
        assert done.returncode == 0, done.stderr
        assert "makes an environment" not in done.stderr
        return project / "hfopt-output" / "best"

    return run_options


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


def test_one_command_exports_with_optimum_and_goes_on_here_and_the_files_write_what_torch_writes(first, project):
    assert first.returncode == 0, first.stderr

    output = project / "hfopt-output"
    expected = written_by_torch(project / "path_to_local_model")
    assert len({token for row in expected for token in row}) > 4
    assert written(output / "optimum") == expected
    assert {file.stem for file in (output / "best").glob("*.onnx")} == {*PARTS}
    for name in PARTS:
        assert "MatMulInteger" in {node.op_type for node in onnx.load(output / "best" / f"{name}.onnx").graph.node}
    packages = json.loads((output / "run.json").read_text())["environment"]["packages"]["passes.conversion.host"]
    assert packages["transformers"].startswith("4.57.")
    assert packages["optimum-onnx"].startswith("0.1.")
    assert metadata.version("transformers").startswith("5.")


def test_it_is_said_first_what_is_installed_and_where(first, project):
    said, _, _ = first.stderr.partition("conversion ")

    assert "passes.conversion.host: makes an environment of accelerate>=1, " in said
    assert "transformers<4.58,>=4.57" in said
    assert f"in {project}/.hfopt-cache/environments/" in said


def test_offline_nothing_is_installed_and_the_command_is_told(run, page):
    done = run(page, "--offline", cache_dir="another-cache")

    assert done.returncode == 3
    assert "is not made yet, and offline nothing is installed" in done.stderr
    assert "run once without --offline" in done.stderr


def test_both_steps_in_one_file_are_taken_where_components_say_so(convert):
    best = convert("path_to_local_model", "summarization", components=["encoder_model", "decoder_model_merged.onnx"])

    assert {file.name for file in best.glob("*.onnx")} == {"encoder_model.onnx", "decoder_model_merged.onnx"}
    inputs = {each.name for each in onnx.load(best / "decoder_model_merged.onnx").graph.input}
    assert "use_cache_branch" in inputs


def test_what_optimum_does_not_make_is_told_with_what_it_makes(run, first, page):
    done = run({**page, "passes": {"conversion": {"type": "OptimumConversion", "config": {"components": ["decoder"]}}}})

    assert done.returncode == 1
    assert "and no decoder" in done.stdout
    assert "optimum makes decoder_model, decoder_model_merged, decoder_with_past_model, encoder_model" in done.stdout


def test_half_precision_an_opset_and_a_file_for_the_weights_can_be_asked_for(convert):
    options = {"fp16": True, "device": "cuda", "target_opset": 15, "save_as_external_data": True}
    best = convert("bert", "text-classification", **options, external_data_name="weights.bin", size_threshold=0)

    model = onnx.load(best / "model.onnx", load_external_data=False)
    assert [each.version for each in model.opset_import if not each.domain] == [15]
    large = [each for each in model.graph.initializer if np.prod(each.dims) > 1000]
    assert {each.data_type for each in large} == {onnx.TensorProto.FLOAT16}
    assert {entry.value for each in large for entry in each.external_data if entry.key == "location"} == {"weights.bin"}
    assert (best / "weights.bin").stat().st_size > sum(2 * np.prod(each.dims) for each in large) * 0.99


def test_what_is_traced_can_be_asked_for(convert):
    traced = {"no_dynamic_axes": True, "batch_size": 3, "sequence_length": 8, "task": "text-classification"}
    best = convert("bert", "text-classification", extra_args=traced)

    for each in onnx.load(best / "model.onnx").graph.input:
        assert [axis.dim_value for axis in each.type.tensor_type.shape.dim] == [3, 8]

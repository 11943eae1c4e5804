"""`hfopt plan` beside real runs: the sizes and memory that were told, and what the cache had."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest

from hfopt_plan.ahead import look_ahead

PASSES = {
    "dynamic": {
        "conversion": {"type": "OnnxConversion"},
        "fusion": {"type": "OrtTransformersOptimization"},
        "quantization": {"type": "OnnxQuantization", "config": {"quant_mode": "dynamic"}},
    },
    "blocks": {
        "conversion": {"type": "OnnxConversion"},
        "quantization": {
            "type": "OnnxQuantization",
            "config": {"quant_mode": "dynamic", "blocks_to_exclude": [0, -1, "embeddings"]},
        },
    },
    "static": {
        "conversion": {"type": "OnnxConversion"},
        "fusion": {"type": "OrtTransformersOptimization"},
        "quantization": {"type": "OnnxStaticQuantization", "config": {"data_config": "rows"}},
    },
    "int4": {"conversion": {"type": "OnnxConversion"}, "int4": {"type": "OnnxMatMul4Quantizer"}},
    "half": {"conversion": {"type": "OnnxConversion"}, "half": {"type": "OnnxFloatToFloat16"}},
}
SIZE, MEMORY = 0.15, 0.40
WITHOUT_FRAMEWORKS = """
import sys
from hfopt.cli.main import main
code = main(sys.argv[1:])
assert not {"torch", "transformers", "onnx", "onnxruntime", "datasets"} & sys.modules.keys()
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of 17 MB with rows: large enough that the weights count, and not the rest of a graph."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("plan")
    model = folder / "model"
    model.mkdir()
    words = ["good", "bad", "film", "plot", "the"]
    (model / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    BertTokenizerFast(str(model / "vocab.txt")).save_pretrained(model)
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    config = BertConfig(vocab_size=4000, max_position_embeddings=64, **sizes)
    BertForSequenceClassification(config).eval().save_pretrained(model)
    with open(folder / "rows.csv", "w", newline="") as stream:
        csv.writer(stream).writerows(
            [("text", "label"), *((f"the {word} film", at % 2) for at, word in enumerate(words))]
        )
    return folder


def write_config(folder, passes, **engine):
    rows = {"data_name": "csv", "data_files": "rows.csv", "input_cols": ["text"], "label_cols": ["label"]}
    config = {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "model", "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", "params_config": rows}],
        "evaluators": {"e": {"metrics": [{"name": "size", "type": "size"}]}},
        "passes": {name: {**entry, "evaluator": "e"} for name, entry in passes.items()},
        "engine": engine,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def call(folder, *arguments, start=("-m", "hfopt")):
    done = subprocess.run([sys.executable, *start, *arguments], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PASSES)
def test_sizes_are_within_15_and_memory_within_40_per_cent_of_what_a_run_finds(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    config = write_config(folder, PASSES[name])
    [(_, told)] = look_ahead(config).candidates

    code, _, stderr = call(folder, "run", "config.json")

    assert code == 0, stderr
    (result,) = json.loads((folder / "hfopt-output" / "run.json").read_text())["results"]
    steps = {step["name"]: step for each in result["candidates"] for step in each["steps"]}
    for made, candidate in zip(told, result["candidates"], strict=True):
        assert made.size_bytes == pytest.approx(candidate["size_bytes"], rel=SIZE), made.name
        if not steps[made.name]["cached"]:
            assert made.peak_bytes == pytest.approx(steps[made.name]["peak_rss_bytes"], rel=MEMORY), made.name


def test_what_the_cache_has_is_told_unless_a_file_has_changed_since_it_was_last_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = write_config(folder, {"conversion": PASSES["int4"]["conversion"]}, cache_dir="another")
    before = [step["cached"] for step in look_ahead(config).steps]

    assert call(folder, "run", "config.json")[0] == 0

    after = look_ahead(config)
    assert set(before) == {False}
    assert [step["cached"] for step in after.steps] == [True] * len(before)
    assert after.needed_bytes < 1.2 * after.candidates[0][1][-1].size_bytes  # only best/ is left to write
    os.utime(folder / "model" / "config.json")
    assert {step["cached"] for step in look_ahead(config).steps} == {None}


def test_it_imports_no_framework_and_opens_no_socket(folder):
    write_config(folder, PASSES["dynamic"])

    code, stdout, stderr = call(folder, "plan", "config.json", start=("-c", WITHOUT_FRAMEWORKS))

    assert (code, stderr) == (0, "")
    assert "  quantization (OnnxQuantization): about 4." in stdout


def test_a_search_says_how_many_candidates_there_are_and_each_ones_size(folder, monkeypatch):
    monkeypatch.chdir(folder)
    passes = {
        "conversion": {"type": "OnnxConversion"},
        "int4": {
            "type": "OnnxMatMul4Quantizer",
            "config": {"block_size": {"search": [16, 256]}},
            "disable_search": False,
        },
    }
    config = write_config(folder, passes, search_strategy={"search_algorithm": "exhaustive"}, evaluator="e")

    outlook = look_ahead(config)

    sizes = {choices["passes.int4.block_size"]: made[-1].size_bytes for choices, made in outlook.candidates}
    assert outlook.tried == len(outlook.candidates)
    assert sizes[256] < sizes[16]


def test_of_a_model_elsewhere_it_says_that_nothing_is_known(folder):
    file = write_config(folder, PASSES["int4"])
    config = json.loads(file.read_text())
    config["input_model"]["config"]["model_path"] = "acme/nowhere"
    file.write_text(json.dumps(config))

    code, stdout, _ = call(folder, "plan", "config.json")

    assert code == 0
    assert "warning: sizes, memory and disk are not known: it lies elsewhere, and plan makes no request\n" in stdout


def test_what_certainly_does_not_fit_on_the_disk_is_refused(folder, monkeypatch):
    from argparse import Namespace

    from hfopt import HfoptError
    from hfopt_plan.command import PlanCommand

    monkeypatch.chdir(folder)
    config = write_config(folder, PASSES["int4"], cache_dir="empty")
    full = os.statvfs(folder)
    monkeypatch.setattr("hfopt_plan.ahead.shutil.disk_usage", lambda _: Namespace(free=1_000_000, total=full.f_blocks))

    with pytest.raises(HfoptError, match=r"the models of this run don't fit on the disk: 1.0 MB are free"):
        PlanCommand.execute(Namespace(config=config, plugin_files=[], json=False))


def test_passes_that_nobody_wrote_are_told_first(folder):
    file = write_config(folder, {})

    code, shown, _ = call(folder, "plan", file.name)

    assert (code, shown.splitlines()[0]) == (
        0,
        "note: no passes are written; chosen: "
        "OnnxConversion -> OrtTransformersOptimization -> OnnxDynamicQuantization -> OrtPerfTuning",
    )

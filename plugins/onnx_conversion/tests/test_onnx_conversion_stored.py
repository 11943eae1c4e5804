"""Decoders whose weights stay in their files: the same graph and the same bytes as of those that are held in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hfopt import Accelerator, ModelHandle, PassContext, PassResult, PreconditionFailed
from hfopt.api.parity import Parity
from hfopt.testing import run_compared
from hfopt_hf_model_loader import stored
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_conversion.conversion import OnnxConversion, OnnxConversionConfig
from hfopt_onnx_conversion.export import export
from hfopt_onnx_model import parts, weights
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

SIZES = {
    **{"vocab_size": 60, "max_position_embeddings": 128, "hidden_size": 32, "intermediate_size": 64},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
GPT = {"vocab_size": 60, "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 128, "bos_token_id": 1}
LLAMA = transformers.LlamaConfig(**SIZES)
CHECKPOINTS = {
    "shards, names without the model's own prefix": (LLAMA, {"shards": "20KB", "prefix": "model."}),
    "bfloat16, tied": (transformers.Qwen2Config(**SIZES, tie_word_embeddings=True), {"dtype": torch.bfloat16}),
    "matrices as they are": (transformers.GPT2Config(**GPT, eos_token_id=2, pad_token_id=0), {}),
}


def save(folder: Path, config, shards: str = "1GB", dtype=torch.float32, prefix: str = "") -> ModelHandle:
    """A decoder of random weights, whose texts vary."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    model.to(dtype).save_pretrained(folder, max_shard_size=shards)
    for file in folder.glob("*.safetensors*"):
        if file.suffix == ".json":
            file.write_text(file.read_text().replace(f'"{prefix}', '"'))
        else:
            renamed = {name.removeprefix(prefix): each.clone() for name, each in load_file(file).items()}
            save_file(renamed, file, metadata={"format": "pt"})
    task = {"task": "text-generation"}
    return PyTorchModel(PyTorchModelConfig(model_path=str(folder), hf_config=task)).fetch(None)


def open_model(handle, settings):
    if handle.type == "PyTorchModel":
        loader = PyTorchModel(PyTorchModelConfig.model_validate(handle.config))
    else:
        loader = ONNXModel(ONNXModelConfig())
    return loader.open(handle, Accelerator(), {"threads": 1, **settings})


def convert(handle: ModelHandle, folder: Path, **options) -> PassResult:
    folder.mkdir()
    context = PassContext(folder, Accelerator(), 1, 0, {}, open_model, None, lambda *_: None)
    return run_compared(OnnxConversion(OnnxConversionConfig(**options)), handle, context, Parity())


@pytest.fixture
def stay(monkeypatch):
    """Even small weights stay in their files, and ONNX Runtime gets a few at a time."""
    monkeypatch.setattr(weights, "HELD", 0)
    monkeypatch.setattr(stored, "LARGE", 512)
    monkeypatch.setattr(parts, "MOST", 10_000)


def contents(result: PassResult) -> tuple[Counter, set]:
    """Operators, and weights by their shapes and bytes, wherever these are."""
    model = onnx.load(result.model.path)
    operators = Counter(node.op_type for node in model.graph.node)
    return operators, {(tuple(each.dims), each.data_type, each.raw_data) for each in model.graph.initializer}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_graph_and_every_byte_are_those_of_a_model_in_memory(kind, tmp_path, request):
    config, how = CHECKPOINTS[kind]
    handle = save(tmp_path / "model", config, **how)
    held = convert(handle, tmp_path / "held")

    request.getfixturevalue("stay")
    result = convert(handle, tmp_path / "stored", save_as_external_data=True)

    assert contents(result) == contents(held)
    assert result.report["parity"]["agree"]
    assert result.report["generated"] == {"equal": 12, "of": 12}
    assert result.report["exporter"] == "torchscript"
    files = sorted((tmp_path / "stored").glob("model.*"))
    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"]
    data = sum(len(each) for _, _, each in contents(result)[1] if len(each) >= 1024)
    assert files[1].stat().st_size < data + 4096 * len(contents(result)[1]), "every weight is there once"


def test_float16_is_made_weight_by_weight_too(tmp_path, request):
    handle = save(tmp_path / "model", LLAMA)
    held = convert(handle, tmp_path / "held", torch_dtype="float16")

    request.getfixturevalue("stay")

    assert contents(convert(handle, tmp_path / "stored", torch_dtype="float16")) == contents(held)


def test_a_session_reads_weights_that_others_may_read_too(stay, tmp_path):
    handle = save(tmp_path / "model", LLAMA)
    feeds = {"input_ids": np.array([[5, 17, 33, 8]])}
    with open_model(handle, {}) as held, open_model(handle, {"brief": True}) as session:
        expected = held.run(feeds)
        found = session.run(feeds)
        name = "model.model.layers.1.mlp.down_proj.weight"
        weight = held.live.get_parameter(name).detach()

        assert not held.stored
        assert all(session.live.get_parameter(each).is_meta for each in session.stored)
        assert len(session.stored) == 2 + 2 * 7
        assert torch.equal(session.stored[name](), weight)
        assert torch.equal(session.stored[name](slice(None), slice(3, 9)), weight[:, 3:9])
    assert all(np.array_equal(found[each], expected[each]) for each in expected)


OWN_CODE = """
import torch
from transformers import LlamaForCausalLM

class Crossed(LlamaForCausalLM):
    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        embedded = torch.nn.functional.embedding(input_ids, self.model.embed_tokens.weight)
        return super().forward(None, attention_mask, position_ids, past_key_values, embedded, use_cache=use_cache)
"""


@pytest.mark.parametrize("kind", ["another module uses them", "they are not numbers"])
def test_weights_that_can_not_stay_are_held(kind, stay, tmp_path):
    handle = save(tmp_path / "model", LLAMA)
    if kind == "they are not numbers":
        file = tmp_path / "model" / "model.safetensors"
        save_file({**load_file(file), "model.norm.weight": torch.full((32,), torch.nan)}, file, {"format": "pt"})
    else:
        (tmp_path / "model" / "own.py").write_text(OWN_CODE)
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        config |= {"auto_map": {"AutoModelForCausalLM": "own.Crossed"}, "architectures": ["Crossed"]}
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        handle.config["hf_config"]["from_pretrained_args"] = {"trust_remote_code": True}
    feeds = {"input_ids": np.array([[5, 17, 33, 8]])}

    with open_model(handle, {}) as held, open_model(handle, {"brief": True}) as session:
        assert not session.stored
        assert np.array_equal(session.run(feeds)["logits"], held.run(feeds)["logits"], equal_nan=True)


def test_what_torchscript_can_not_trace_is_told_how_it_may_be_exported(stay, tmp_path):
    def reads_in_python(*_):
        if torch.jit.is_tracing():
            raise ValueError("this model reads its input in Python")

    session = open_model(save(tmp_path / "model", LLAMA), {"brief": True})
    session.live.register_forward_pre_hook(reads_in_python)
    with session, pytest.raises(PreconditionFailed) as refused:
        export(session, session.inputs, tmp_path / "model.onnx")

    assert refused.value.message == (
        "the model can't be exported: torchscript failed: ValueError: this model reads its input in Python"
    )
    assert refused.value.hint == "use_dynamo_exporter: true holds all weights in memory"


CONVERT = """
import re, sys
from pathlib import Path
from hfopt import Accelerator, PassContext
from hfopt.api.parity import Parity
from hfopt.testing import run_compared
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_conversion.conversion import OnnxConversion, OnnxConversionConfig
from hfopt_onnx_model import parts, weights
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

def open_model(handle, settings):
    torch = handle.type == "PyTorchModel"
    loader = PyTorchModel(PyTorchModelConfig.model_validate(handle.config)) if torch else ONNXModel(ONNXModelConfig())
    return loader.open(handle, Accelerator(), {"threads": 1, **settings})

weights.HELD, parts.MOST = 0, 20_000_000
for folder in map(Path, sys.argv[1:]):
    config = PyTorchModelConfig(model_path=str(folder), hf_config={"task": "text-generation"})
    made = folder / "made"
    made.mkdir()
    context = PassContext(made, Accelerator(), 1, 0, {}, open_model, None, lambda *_: None)
    options = OnnxConversionConfig(save_as_external_data=True)
    result = run_compared(OnnxConversion(options), PyTorchModel(config).fetch(None), context, Parity())
    assert result.report["parity"]["agree"], result.report
    peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
    print(int(peak) * 1024)
"""


def test_memory_does_not_grow_with_the_model(tmp_path):
    """200 MB are converted and compared with a part of that beyond what a tiny model takes."""
    save(tmp_path / "tiny", LLAMA)
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 5, "num_attention_heads": 8}
    large = save(tmp_path / "large", transformers.LlamaConfig(**{**SIZES, **sizes}))
    command = [sys.executable, "-c", CONVERT, str(tmp_path / "tiny"), str(tmp_path / "large")]

    at_once = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "1000000",
    }  # else freed memory stays for a while

    done = subprocess.run(command, capture_output=True, text=True, check=True, env=at_once)
    tiny, peak = map(int, done.stdout.split())

    assert large.size_bytes > 200_000_000
    assert peak - tiny < large.size_bytes / 2

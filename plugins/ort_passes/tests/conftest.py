"""A small random BERT as an ONNX file, and a way to run a pass on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from hfopt import Accelerator, ModelHandle, PassContext, TensorSpec
from hfopt.measuring import Stopwatch
from hfopt_onnx_conversion.export import quiet
from hfopt_onnx_model.graph import handle_of
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig


@pytest.fixture(scope="session")
def converted(tmp_path_factory) -> ModelHandle:
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.BertConfig(vocab_size=200, max_position_embeddings=64, **sizes)
    config._attn_implementation = "eager"
    model = transformers.BertForSequenceClassification(config).eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names}

    class ByPosition(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids, mask, segments):
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits

    path = tmp_path_factory.mktemp("bert") / "model.onnx"
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    with quiet():
        torch.onnx.export(
            ByPosition(),
            example,
            str(path),
            input_names=names,
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
            dynamic_axes={**axes, "logits": {0: "batch_size"}},
        )
    specs = tuple(
        TensorSpec(name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=high)
        for name, high in zip(names, (200, 2, 2), strict=True)
    )
    like = ModelHandle(type="PyTorchModel", path=path, files=(), inputs=specs, attributes=config.to_dict())
    return handle_of(path, like=like)


def open_model(handle, settings):
    return ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {"threads": 1, **settings})


@pytest.fixture
def context(tmp_path) -> PassContext:
    folder = Path(tmp_path, "out")
    folder.mkdir()
    stopwatch = Stopwatch(Accelerator(), (), lambda *_: None)
    compare = partial(stopwatch.compare, warmup=2)
    return PassContext(folder, Accelerator(), 2, 0, {}, open_model, compare, lambda *_: None)

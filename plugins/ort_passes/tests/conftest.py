"""A small random BERT as an ONNX file, and a way to run a pass on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hfopt import Accelerator, Batch, Dataset, ModelHandle, PassContext, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.testing import Stopwatch
from hfopt_onnx_conversion.export import quiet
from hfopt_onnx_model.graph import handle_of
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

NAMES = ("input_ids", "attention_mask", "token_type_ids")
SPECS = tuple(
    TensorSpec(name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=high)
    for name, high in zip(NAMES, (200, 2, 2), strict=True)
)


def export_bert(path: Path, *, attention: str, dynamo: bool) -> ModelHandle:
    """A BERT of two layers, written by one of PyTorch's exporters with one of transformers' attentions."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.BertConfig(vocab_size=200, max_position_embeddings=64, **sizes)
    config._attn_implementation = attention
    model = transformers.BertForSequenceClassification(config).eval()

    class ByPosition(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids, mask, segments):
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in NAMES)
    named = {"input_names": list(NAMES), "output_names": ["logits"]}
    with quiet():
        if dynamo:
            axes = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
            options = {"dynamic_shapes": (axes, axes, axes), "external_data": False, "verbose": False}
            torch.onnx.export(ByPosition(), example, str(path), opset_version=18, dynamo=True, **named, **options)
        else:
            axes = {name: {0: "batch_size", 1: "sequence_length"} for name in NAMES} | {"logits": {0: "batch_size"}}
            torch.onnx.export(
                ByPosition(), example, str(path), opset_version=17, dynamo=False, dynamic_axes=axes, **named
            )
    like = ModelHandle(type="PyTorchModel", path=path, files=(), inputs=SPECS, attributes=config.to_dict())
    return handle_of(path, like=like)


@pytest.fixture(scope="session")
def converted(tmp_path_factory) -> ModelHandle:
    return export_bert(tmp_path_factory.mktemp("bert") / "model.onnx", attention="eager", dynamo=False)


@pytest.fixture(scope="session")
def exporter():
    return export_bert


class Lines(Dataset):
    """Random rows, of one length or each of a length of its own, made when they are read."""

    def __init__(self, count, *, length=None):
        self.count, self.length = count, length

    def __len__(self):
        return self.count

    def batches(self, rows=None):
        for row in range(self.count) if rows is None else rows:
            sizes = {"batch_size": 1, "sequence_length": self.length or 3 + row % 17}
            yield Batch(np.array([row]), example_feeds(SPECS, sizes, seed=row), None)

    def post_process(self, outputs):
        return outputs["logits"]


@pytest.fixture
def lines() -> type[Lines]:
    return Lines


@pytest.fixture
def logits(context):
    """What a model says of one example."""

    def run(model):
        with context.open(model, {}) as session:
            return session.run(example_feeds(SPECS, {"batch_size": 2, "sequence_length": 12}, seed=99))["logits"]

    return run


def open_model(handle, settings):
    return ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {"threads": 1, **settings})


@pytest.fixture
def context(tmp_path) -> PassContext:
    folder = Path(tmp_path, "out")
    folder.mkdir()
    stopwatch = Stopwatch(Accelerator(), (), lambda *_: None)
    compare = partial(stopwatch.compare, warmup=2)
    data = {"rows": Lines(12)}
    return PassContext(folder, Accelerator(), 2, 0, data, open_model, compare, lambda *_: None)

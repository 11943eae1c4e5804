"""A small random BERT, open in PyTorch."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from hfopt import Accelerator, ModelHandle, PassContext, TensorSpec
from hfopt.api.parity import Parity
from hfopt.testing import run_compared
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_hf_model_loader.session import TorchSession
from hfopt_onnx_conversion.conversion import OnnxConversion, OnnxConversionConfig
from hfopt_onnx_conversion.export import export
from hfopt_onnx_model.composite import CompositeModel
from hfopt_onnx_model.graph import handle_of
from hfopt_onnx_model.loader import ONNXModel


def make_bert() -> TorchSession:
    """BertForSequenceClassification: 2 layers, hidden size 16, attention written out, seed 0."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        max_position_embeddings=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        attn_implementation="eager",
    )
    ranges = {"input_ids": 30, "attention_mask": 2, "token_type_ids": 2}
    specs = tuple(
        TensorSpec(name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=high)
        for name, high in ranges.items()
    )
    return TorchSession(transformers.BertForSequenceClassification(config).eval(), specs)


@pytest.fixture(scope="session")
def bert() -> TorchSession:
    return make_bert()


@pytest.fixture(scope="session")
def converted(bert, tmp_path_factory) -> ModelHandle:
    """The same as ONNX, opset 17."""
    path = tmp_path_factory.mktemp("converted") / "model.onnx"
    export(bert, bert.inputs, path, exporters=("torchscript",))
    return handle_of(path, like=ModelHandle(type="PyTorchModel", path=path, files=(), inputs=bert.inputs))


@pytest.fixture(scope="session")
def open_model():
    """Opens any model: ``open_model(handle, settings)``."""
    loaders = {"PyTorchModel": PyTorchModel, "ONNXModel": ONNXModel, "CompositeModel": CompositeModel}

    def open_(handle, settings):
        loader = loaders[handle.type]
        config = loader.Config.model_validate_json(json.dumps(handle.config))
        return loader(config).open(handle, Accelerator(), {"threads": 1, **settings})

    return open_


@pytest.fixture(scope="session")
def convert(open_model):
    """Converts a model in a new folder, and compares: ``convert(handle, folder, **options)``."""

    def convert_(handle, folder, **options):
        folder.mkdir()
        context = PassContext(folder, Accelerator(), 1, 0, {}, open_model, None, lambda *_: None)
        return run_compared(OnnxConversion(OnnxConversionConfig(**options)), handle, context, Parity())

    return convert_


@pytest.fixture
def apply(tmp_path, open_model):
    """Runs a pass of ONNX models in a new folder, and compares: ``apply(pass_class, handle, **options)``."""

    def apply_(pass_class, handle, parity=Parity(), **options):  # noqa: B008 - frozen
        folder = tmp_path / f"pass{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        work = pass_class(pass_class.Config(**options))
        work.requires(handle)
        context = PassContext(folder, Accelerator(), 1, 0, {}, open_model, None, lambda *_: None)
        return run_compared(work, handle, context, parity)

    return apply_

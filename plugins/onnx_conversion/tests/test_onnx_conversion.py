"""OnnxConversion against PyTorch, on small random models of several architectures."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from pydantic import ValidationError

from hfopt import Accelerator, HfoptError, ModelHandle, PassContext, Session, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.api.parity import Parity
from hfopt.testing import run_compared
from hfopt_hf_model_loader.session import TorchSession
from hfopt_onnx_conversion import stored
from hfopt_onnx_conversion.conversion import OnnxConversion, OnnxConversionConfig
from hfopt_onnx_conversion.tracing import output_specs
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

COMPARED = Parity()
SIZES = {"vocab_size": 40, "max_position_embeddings": 40}
BERT_LIKE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}
ENDS = {name: number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))}
ARCHITECTURES = {
    "bert": transformers.BertConfig(**SIZES, **BERT_LIKE),
    "distilbert": transformers.DistilBertConfig(**SIZES, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    "roberta": transformers.RobertaConfig(**SIZES, **BERT_LIKE, pad_token_id=1),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES, **BERT_LIKE, pad_token_id=1),
    "albert": transformers.AlbertConfig(**SIZES, **BERT_LIKE, embedding_size=16),
    "electra": transformers.ElectraConfig(**SIZES, **BERT_LIKE, embedding_size=16),
    "mpnet": transformers.MPNetConfig(**SIZES, **BERT_LIKE),
    "deberta-v2": transformers.DebertaV2Config(**SIZES, **BERT_LIKE, **DEBERTA),
    "modernbert": transformers.ModernBertConfig(
        **SIZES, **BERT_LIKE, **{f"{name}_token_id": number for name, number in ENDS.items()}, local_attention=8
    ),
}
SEGMENTS = ("bert", "albert", "electra")


def text_inputs(*names):
    return tuple(
        TensorSpec(
            name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=2 if "_ids" not in name else 30
        )
        for name in names
    )


def classifier(name) -> TorchSession:
    torch.manual_seed(0)
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if name in SEGMENTS else [])
    specs = [
        spec.model_copy(update={"high": 2}) if spec.name == "token_type_ids" else spec for spec in text_inputs(*names)
    ]
    config = ARCHITECTURES[name]
    config._attn_implementation = "eager"
    return TorchSession(transformers.AutoModelForSequenceClassification.from_config(config).eval(), tuple(specs))


def convert(source: Session, folder: Path, parity=COMPARED, **options) -> tuple[ModelHandle, dict]:
    handle = ModelHandle(type="PyTorchModel", path=folder, files=(), inputs=source.inputs)

    def open_any(model, settings):
        if model.type == "PyTorchModel":
            return TorchSession(copy.deepcopy(source.live), source.inputs)
        return ONNXModel(ONNXModelConfig()).open(model, Accelerator(), {"threads": 1, **settings})

    context = PassContext(folder, Accelerator(), 1, 0, {}, open_any, None, lambda *_: None)
    result = run_compared(OnnxConversion(OnnxConversionConfig(**options)), handle, context, parity)
    return result.model, dict(result.report)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_graph_computes_what_torch_computes_at_shapes_it_was_not_traced_with(name, tmp_path):
    source = classifier(name)

    handle, report = convert(source, tmp_path)

    assert report["parity"]["agree"]
    with ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {}) as session:
        for batch, length in ((1, 1), (1, 9), (5, 3)):
            feeds = example_feeds(
                source.inputs, {"batch_size": batch, "sequence_length": length}, padded=True, seed=batch
            )
            np.testing.assert_allclose(session.run(feeds)["logits"], source.run(feeds)["logits"], atol=1e-5)


class Doubling(torch.nn.Module):
    """Multiplies by twice a matrix, which an exporter that knows it works out beforehand."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.matrix = torch.nn.Embedding(40, 16), torch.nn.Parameter(torch.randn(16, 16))

    def forward(self, input_ids):
        return {"logits": self.table(input_ids) @ (self.matrix * 2)}


@pytest.mark.parametrize("name", ["bert", "albert", "deberta-v2", "modernbert", "what is worked out from a weight"])
def test_weights_that_the_exporter_is_not_given_change_no_operator_and_no_byte(name, tmp_path, monkeypatch):
    source = classifier(name) if name in ARCHITECTURES else TorchSession(Doubling(), text_inputs("input_ids"))
    found = []
    for least in (256, 10**9):
        monkeypatch.setattr(stored, "LARGE", least)
        assert bool(stored.apart(source)) == (least == 256)
        (tmp_path / str(least)).mkdir()
        handle, _ = convert(source, tmp_path / str(least))
        graph = onnx.load(handle.path).graph
        weights = sorted((*each.dims, each.data_type, each.raw_data) for each in graph.initializer)
        found.append(([node.op_type for node in graph.node], weights, [each.name for each in graph.input]))

    assert found[0] == found[1]


def test_names_axes_and_opset_are_those_that_people_expect(tmp_path):
    handle, report = convert(classifier("bert"), tmp_path)

    assert [spec.name for spec in handle.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {spec.axes for spec in handle.inputs} == {("batch_size", "sequence_length")}
    assert [(spec.name, spec.axes) for spec in handle.outputs] == [("logits", ("batch_size", 2))]
    assert {entry.domain: entry.version for entry in onnx.load(str(handle.path)).opset_import}[""] == 17
    assert report["operators"]["Softmax"] == 2


def test_another_opset_can_be_asked_for(tmp_path):
    handle, _ = convert(classifier("bert"), tmp_path, target_opset=14)

    assert {entry.domain: entry.version for entry in onnx.load(str(handle.path)).opset_import}[""] == 14


def test_inputs_whose_order_differs_from_the_signature_are_not_swapped(tmp_path):
    source = classifier("bert")
    source.inputs = tuple(reversed(source.inputs))

    handle, report = convert(source, tmp_path)

    assert report["parity"]["agree"]
    assert [spec.name for spec in handle.inputs] == ["token_type_ids", "attention_mask", "input_ids"]


def test_hidden_states_keep_the_name_of_the_sequence_axis():
    source = classifier("bert")
    source = TorchSession(source.live.bert, source.inputs)

    specs = output_specs(source, source.inputs)

    assert [(spec.name, spec.axes) for spec in specs] == [
        ("last_hidden_state", ("batch_size", "sequence_length", 16)),
        ("pooler_output", ("batch_size", 16)),
    ]


def test_nothing_is_printed(tmp_path, capfd):
    convert(classifier("bert"), tmp_path)

    assert capfd.readouterr() == ("", "")


class Doubtful(torch.nn.Module):
    """Computes something else while it is traced."""

    def forward(self, input_ids):
        factor = 3.0 if torch.jit.is_tracing() else 1.0
        return {"logits": input_ids.float() * factor}


def test_a_graph_that_computes_something_else_is_refused_unless_allowed(tmp_path):
    source = TorchSession(Doubtful(), text_inputs("input_ids"))

    with pytest.raises(HfoptError) as failure:
        convert(source, tmp_path)

    assert failure.value.message.startswith("the new model computes something else: logits differs by ")
    assert failure.value.hint.startswith('write "parity": {"on_difference": "warn"} beside')
    (tmp_path / "second").mkdir()
    _, report = convert(source, tmp_path / "second", parity=Parity(on_difference="warn"))
    assert report["parity"]["agree"] is False
    assert report["warning"].startswith("the new model computes something else: logits differs by ")


class Untraceable(torch.nn.Module):
    """Fails while it is traced by TorchScript."""

    def forward(self, input_ids):
        if torch.jit.is_tracing():
            raise ValueError("this model reads its input in Python")
        return {"logits": input_ids.float() * 2}


class Unexportable(Untraceable):
    """Fails in torch.export too."""

    def forward(self, input_ids):
        if torch.compiler.is_exporting():
            raise TypeError("this model can not be exported")
        return super().forward(input_ids)


def test_where_torchscript_fails_the_other_exporter_takes_over_and_says_so(tmp_path):
    source = TorchSession(Untraceable(), text_inputs("input_ids"))

    handle, report = convert(source, tmp_path)

    assert (report["exporter"], report["opset"], report["parity"]["agree"]) == ("dynamo", 18, True)
    assert report["warning"] == (
        "exported by dynamo, as torchscript failed: ValueError: this model reads its input in Python"
    )
    assert [spec.axes for spec in handle.outputs] == [("batch_size", "sequence_length")]


def test_a_model_that_no_exporter_can_do_says_why_of_each(tmp_path):
    source = TorchSession(Unexportable(), text_inputs("input_ids"))

    with pytest.raises(HfoptError) as failure:
        convert(source, tmp_path)

    assert failure.value.message.startswith(
        "the model can't be exported: torchscript failed: ValueError: this model reads its input in Python; "
        "dynamo failed: "
    )
    assert "this model can not be exported" in failure.value.message
    assert list(tmp_path.iterdir()) == []


def test_the_source_given_by_the_model_loader_is_asked_for_plain_attention(tmp_path):
    asked = []
    source = classifier("bert")
    handle = ModelHandle(type="PyTorchModel", path=tmp_path, files=(), inputs=source.inputs)

    def open_any(model, settings):
        asked.append(settings)
        return source

    context = PassContext(tmp_path, Accelerator(), 1, 0, {}, open_any, None, lambda *_: None)
    OnnxConversion(OnnxConversionConfig()).run(handle, context)

    assert asked == [{"attn_implementation": "eager", "brief": True}]


def test_half_precision_is_exported_by_a_cast_and_compared_to_its_tolerance(tmp_path):
    handle, report = convert(classifier("bert"), tmp_path, torch_dtype="float16")

    assert [spec.dtype for spec in handle.outputs] == ["float16"]
    assert report["parity"]["agree"]
    assert report["parity"]["outputs"]["logits"]["difference"] > 0


def test_bfloat16_is_refused_as_an_option_and_cast_away_where_the_model_has_it(tmp_path):
    with pytest.raises(ValidationError, match="bfloat16 is not exported, for which ONNX Runtime has no operators"):
        OnnxConversionConfig(torch_dtype="bfloat16")
    source = classifier("bert")
    source.live.to(torch.bfloat16)

    with pytest.raises(HfoptError) as failure:
        convert(source, tmp_path)

    assert failure.value.message.startswith("the model is held in bfloat16")
    assert failure.value.hint == "set torch_dtype to float32 or float16"
    handle, report = convert(source, tmp_path, torch_dtype="float32")
    assert [spec.dtype for spec in handle.outputs] == ["float32"]
    assert report["parity"]["agree"]

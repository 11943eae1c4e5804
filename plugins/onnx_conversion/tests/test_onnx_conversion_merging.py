"""The two steps of a decoder as one graph, against the steps themselves in ONNX Runtime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers

from hfopt import Accelerator, ModelHandle, PassContext, PreconditionFailed
from hfopt.api.parity import Parity
from hfopt.testing import run_compared, validate
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_conversion.merging import OptimumMerging, OptimumMergingConfig
from hfopt_onnx_model.generating import greedy

READ = {"input_ids": np.array([[5, 17, 33, 8]]), "decoder_input_ids": np.array([[0]])}


@pytest.fixture(scope="module")
def parts(convert, tmp_path_factory) -> ModelHandle:
    """A T5 of one layer in three parts."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder / "model")
    options = {"model_path": str(folder / "model"), "hf_config": {"task": "translation"}}
    return convert(PyTorchModel(PyTorchModelConfig(**options)).fetch(None), folder / "made").model


@pytest.fixture
def merge(open_model, tmp_path):
    """Merges the steps of a model in a new folder, and compares: ``merge(model, **options)``."""

    def merge_(model, **options):
        folder = tmp_path / f"merged{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        context = PassContext(folder, Accelerator(), 1, 0, {}, open_model, None, lambda *_: None)
        return run_compared(OptimumMerging(OptimumMergingConfig(**options)), model, context, Parity())

    return merge_


def computed(model: ModelHandle, feeds) -> dict:
    session = onnxruntime.InferenceSession(str(model.path))
    feeds = {each.name: feeds[each.name] for each in session.get_inputs()}
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))


def test_each_branch_computes_what_its_step_does_and_weights_are_there_once(merge, open_model, parts):
    result = merge(parts)

    first, later = parts.components["decoder_model"], parts.components["decoder_with_past_model"]
    both = result.model.components["decoder_model_merged"]
    assert result.report["parity"]["agree"]
    assert (both.path.name, list(result.model.components)) == (
        "decoder_model_merged.onnx",
        ["encoder_model", "decoder_model_merged"],
    )
    names = {spec.name for spec in both.inputs}
    assert names == {spec.name for spec in (*first.inputs, *later.inputs)} | {"use_cache_branch"}
    assert [spec.name for spec in both.outputs] == [spec.name for spec in first.outputs]
    weights = Counter(each.raw_data for each in onnx.load(both.path).graph.initializer if len(each.raw_data) > 32)
    assert set(weights.values()) == {1}

    random = np.random.default_rng(0)
    feeds = {
        "input_ids": np.array([[3, 4], [5, 6], [7, 8]]),
        "encoder_attention_mask": np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]]),
        "encoder_hidden_states": random.standard_normal((3, 3, 32), np.float32),
    }
    past = {
        spec.name: random.standard_normal((3, 4, 3 if ".encoder." in spec.name else 5, 8), np.float32)
        for spec in later.inputs
        if spec.name.startswith("past")
    }
    for step, chosen in ((first, False), (later, True)):
        expected = computed(step, feeds | past)
        found = computed(both, feeds | past | {"use_cache_branch": np.array([chosen])})
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
    kept = found["present.0.encoder.key"]
    np.testing.assert_array_equal(kept, past["past_key_values.0.encoder.key"])

    with open_model(parts, {}) as apart, open_model(result.model, {}) as together:
        assert greedy(together, READ, 12).tolist() == greedy(apart, READ, 12).tolist()


def test_weights_go_beside_the_merged_graph_as_options_say(merge, parts):
    def files(**options) -> list[str]:
        written = merge(parts, save_as_external_data=True, **options).model.components["decoder_model_merged"].files
        return [file.name.removeprefix("decoder_model_merged.onnx") for file in written]

    assert files() == ["", ".data"]
    assert files(external_data_name="w.bin", size_threshold=0, convert_attribute=True) == ["", "w.bin"]
    assert files(all_tensors_to_one_file=False, size_threshold=4096)[1:3] == [".data.0000", ".data.0001"]


def test_steps_that_do_not_go_together_are_refused_whatever_strict_says(merge, parts, tmp_path):
    problems: list = []
    validate(OptimumMergingConfig, {"strict": False}, (), problems)
    (problem,) = problems
    assert problem.message == "steps whose weights, operators or outputs do not go together are refused"

    encoder = parts.with_(components={"encoder_model": parts.components["encoder_model"]})
    with pytest.raises(PreconditionFailed) as failure:
        merge(encoder)
    assert failure.value.message == (
        "merges decoder_model and decoder_with_past_model of ONNX, and the model has encoder_model"
    )

    alone = onnx.load(parts.components["decoder_model"].path)
    alone.graph.output.append(alone.graph.output[0])
    alone.graph.output[-1].name = alone.graph.node.add(op_type="Neg", input=["logits"], output=["scores"]).output[0]
    onnx.save(alone, tmp_path / "alone.onnx")
    scored = parts.components["decoder_model"].with_(path=tmp_path / "alone.onnx")
    with pytest.raises(PreconditionFailed) as failure:
        merge(parts.with_(components={**parts.components, "decoder_model": scored}))
    assert failure.value.message == "only one of decoder_model and decoder_with_past_model returns scores"

    other = onnx.load(parts.components["decoder_model"].path)
    other.opset_import[0].version = 18
    onnx.save(other, tmp_path / "other.onnx")
    mixed = parts.components["decoder_model"].with_(path=tmp_path / "other.onnx")
    with pytest.raises(PreconditionFailed) as failure:
        merge(parts.with_(components={**parts.components, "decoder_model": mixed}))
    assert failure.value.message == (
        "decoder_model has operators of other versions than decoder_with_past_model: {'': 18}, {'': 17}"
    )

"""PyTorchModel, open: the same numbers as transformers gives, and what opening refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfopt import Accelerator, FetchContext, PluginError, PreconditionFailed, TensorSpec
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def open_(place, task="text-classification", settings=None, accelerator=None, **from_pretrained_args):
    hf_config = {"task": task, "from_pretrained_args": from_pretrained_args}
    chosen = PyTorchModel(
        PyTorchModelConfig.model_validate({"model_path": str(place), "hf_config": hf_config}, strict=False)
    )
    handle = chosen.fetch(FetchContext(Path(), lambda *_: None))
    return PyTorchModel(PyTorchModelConfig(**handle.config)).open(handle, accelerator or Accelerator(), settings or {})


def test_a_session_computes_what_transformers_computes(folder):
    import torch
    from transformers import AutoModelForSequenceClassification

    with open_(folder) as session:
        found = session.run({"input_ids": IDS, "attention_mask": MASK, "unknown": IDS})

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(torch.tensor(IDS), torch.tensor(MASK)).logits.numpy()
    assert list(found) == ["logits"]
    assert found["logits"].dtype == np.float32
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)


def test_inputs_that_the_data_lack_are_filled_in(folder):
    full = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "token_type_ids": np.zeros_like(IDS)}

    with open_(folder) as session:
        assert (session.run({"input_ids": IDS})["logits"] == session.run(full)["logits"]).all()
        with pytest.raises(
            PreconditionFailed, match="the data have no 'input_ids', which the model takes; they have ids, mask"
        ):
            session.run({"ids": IDS, "mask": MASK})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_rows_of_equal_length_have_the_same_logits_in_a_batch_as_alone(folder, attention):
    random = np.random.default_rng(0)

    with open_(folder, attn_implementation=attention) as session:
        assert session.rows_are_independent
        for length in (4, 27):
            ids = random.integers(5, 30, size=(32, length))
            together = session.run({"input_ids": ids})["logits"]
            alone = np.concatenate([session.run({"input_ids": row[None]})["logits"] for row in ids])

            assert (together.argmax(axis=1) == alone.argmax(axis=1)).all()
            np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_what_is_timed_runs_the_model_on_inputs_made_before(folder):
    import torch

    with open_(folder) as session:
        seen = []
        session.live.register_forward_pre_hook(
            lambda _, arguments, named: seen.append((named["input_ids"], torch.is_inference_mode_enabled())),
            with_kwargs=True,
        )
        call = session.bind({"input_ids": IDS})
        assert call() is None
        call()

    (first, mode), (second, _) = seen
    assert first is second
    assert mode


def test_threads_and_attention_are_the_callers_to_choose(folder):
    import torch

    before = torch.get_num_threads()
    with open_(folder, settings={"threads": 1, "attn_implementation": "eager"}, attn_implementation="sdpa") as session:
        assert session.live.config._attn_implementation == "eager"
        assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    with open_(folder, attn_implementation="eager") as session:
        assert session.live.config._attn_implementation == "eager"


@pytest.mark.parametrize(("written", "held"), [("bfloat16", "float32"), ("float16", "float16"), (None, "float32")])
def test_weights_are_held_as_the_config_says_and_float32_if_it_does_not(folder, written, held):
    with open_(folder, torch_dtype=written) as session:
        assert str(session.live.dtype) == f"torch.{written or 'float32'}"
        assert session.run({"input_ids": IDS})["logits"].dtype == held


def test_a_half_precision_checkpoint_is_held_as_saved_only_if_the_config_says_auto(folder, tmp_path):
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(folder).half().save_pretrained(tmp_path)

    with open_(tmp_path) as plain, open_(tmp_path, torch_dtype="auto") as auto:
        assert [str(session.live.dtype) for session in (plain, auto)] == ["torch.float32", "torch.float16"]


@pytest.mark.parametrize(
    ("task", "head", "outputs"),
    [
        ("token-classification", "BertForTokenClassification", ["logits"]),
        ("question-answering", "BertForQuestionAnswering", ["start_logits", "end_logits"]),
        ("fill-mask", "BertForMaskedLM", ["logits"]),
        ("feature-extraction", "BertModel", ["last_hidden_state", "pooler_output"]),
    ],
)
def test_other_tasks_of_text_encoders_run_too(tmp_path, task, head, outputs):
    import transformers

    getattr(transformers, head)(transformers.BertConfig(vocab_size=30, **SIZES)).save_pretrained(tmp_path)

    with open_(tmp_path, task) as session:
        assert list(session.run({"input_ids": IDS})) == outputs


def test_only_tensors_are_outputs(folder):
    with open_(folder, output_hidden_states=True) as session:
        assert list(session.run({"input_ids": IDS})) == ["logits"]


def test_a_checkpoint_that_lacks_weights_is_refused(broken):
    from safetensors.numpy import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(PreconditionFailed) as failure:
        open_(broken)

    assert failure.value.message == "the checkpoint lacks 1 weights of the model, such as classifier.weight"


@pytest.mark.parametrize(
    "written", [{"attn_implementation": "no_such"}, {"no_such_argument": 1}, {"num_labels": 5}], ids=str
)
def test_what_transformers_refuses_is_said_in_its_words(folder, written):
    with pytest.raises(PreconditionFailed, match=f"^transformers can't load {folder}: .+"):
        open_(folder, **written)


def test_opening_prints_nothing_and_leaves_transformers_as_talkative_as_before(folder, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with open_(folder):
        pass

    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_cpu_is_available_whatever_the_execution_provider_and_other_devices_say_why_not():
    import torch

    def unavailable(device):
        return PyTorchModel.unavailable(Accelerator(device=device, execution_provider="OpenVINOExecutionProvider"))

    assert unavailable("cpu") is None
    assert unavailable("npu") == "PyTorch models run on cpu or gpu, not on npu"
    if torch.cuda.is_available():
        assert unavailable("gpu") is None
    elif torch.version.cuda is None and torch.version.hip is None:
        assert unavailable("gpu") == (
            f"PyTorch {torch.__version__} is built without CUDA: install a build of torch with it"
        )
    else:
        assert unavailable("gpu") == "PyTorch finds no GPU: torch.cuda.is_available() is false"


def test_opening_on_a_device_that_is_not_there_is_a_sentence(folder):
    with pytest.raises(PluginError, match="PyTorch models run on cpu or gpu, not on npu"):
        open_(folder, accelerator=Accelerator(device="npu"))


def test_model_and_inputs_go_to_the_device(folder):
    """The device without memory stands for a GPU: both must be there for the model to run."""
    from transformers import AutoModelForSequenceClassification

    from hfopt_hf_model_loader.session import TorchSession

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    specs = [TensorSpec(name="input_ids", dtype="int64", axes=("batch_size", "sequence_length"))]
    session = TorchSession(model, specs, "meta")
    seen = []
    model.register_forward_pre_hook(lambda _, arguments, named: seen.append(named["input_ids"]), with_kwargs=True)

    session.bind({"input_ids": IDS})()

    assert seen[0].device.type == model.classifier.weight.device.type == "meta"


def test_what_the_models_code_raises_is_a_sentence_when_run_and_when_timed(folder):
    unknown = {"input_ids": np.full((1, 4), 1_000_000)}

    with open_(folder) as session:
        for call in (lambda: session.run(unknown), session.bind(unknown)):
            with pytest.raises(PreconditionFailed, match=r"^PyTorch can't run the model: IndexError: "):
                call()

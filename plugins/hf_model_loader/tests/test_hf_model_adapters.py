"""adapter_path: the model is the base with the adapter merged into it, as PEFT itself computes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hfopt import Accelerator, FetchContext, HfoptError
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

IDS = np.array([[2, 5, 6, 7, 3]])


def base(place: Path):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(place).eval()


@pytest.fixture
def lora(folder, tmp_path) -> Path:
    """A LoRA of the fixture model, with weights that change its outputs, and a head of its own."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    model = get_peft_model(base(folder), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.normal_()
    model.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


def opened(place: Path, adapter: Path):
    config = {"model_path": str(place), "adapter_path": str(adapter), "hf_config": {"task": "text-classification"}}
    loader = PyTorchModel(PyTorchModelConfig.model_validate(config, strict=False))
    handle = loader.fetch(FetchContext(Path(), lambda *_: None))
    return PyTorchModel(PyTorchModelConfig.model_validate(handle.config)).open(handle, Accelerator(), {})


def logits(place: Path, adapter: Path) -> np.ndarray:
    with opened(place, adapter) as session:
        return session.run({"input_ids": IDS})["logits"]


def refusal(place: Path, adapter: Path) -> tuple[str, str | None]:
    with pytest.raises(HfoptError) as failure:
        logits(place, adapter)
    return failure.value.message, failure.value.hint


def of_peft(place: Path, adapter: Path) -> np.ndarray:
    from peft import PeftModel

    with torch.inference_mode():
        return PeftModel.from_pretrained(base(place), adapter).eval()(input_ids=torch.tensor(IDS)).logits.numpy()


def test_outputs_are_those_of_peft(folder, lora):
    found = logits(folder, lora)

    np.testing.assert_allclose(found, of_peft(folder, lora), atol=1e-5)
    with torch.inference_mode():
        assert np.abs(found - base(folder)(input_ids=torch.tensor(IDS)).logits.numpy()).max() > 0.1


def test_the_merged_model_is_a_plain_one(folder, lora):
    with opened(folder, lora) as session:
        assert type(session.live).__name__ == "BertForSequenceClassification"
        assert not any("lora" in name for name, _ in session.live.named_parameters())


def test_an_adapter_may_bring_the_head_that_its_base_lacks(folder, lora, tmp_path):
    from transformers import BertModel

    BertModel.from_pretrained(folder).save_pretrained(tmp_path / "headless")

    np.testing.assert_allclose(logits(tmp_path / "headless", lora), of_peft(folder, lora), atol=1e-5)


def test_an_adapter_that_is_none_or_is_damaged_is_told(folder, lora, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refusal(folder, tmp_path / "empty") == (
        f"{tmp_path / 'empty'} is not an adapter of PEFT: it has no adapter_config.json",
        None,
    )

    weights = lora / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert refusal(folder, lora) == (f"{weights} is truncated, or not a safetensors file", "fetch it again")

    weights.unlink()
    assert refusal(folder, lora) == (f"{lora} has no weights of an adapter: no adapter_model.safetensors", None)


def test_an_adapter_of_another_model_is_told(folder, lora):
    file = lora / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "target_modules": ["q_proj"]}))

    assert refusal(folder, lora)[0].startswith(f"peft can't load {lora}: No modules were targeted ")


def test_an_adapter_that_lacks_weights_is_told(folder, lora):
    file = lora / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "target_modules": ["query", "key", "value"]}))

    message, _ = refusal(folder, lora)

    assert message.startswith(f"{lora} does not fit the model: ")
    assert "missing adapter keys" in message


def test_an_adapter_that_can_not_be_merged_is_told(folder, tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(base(folder), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2))
    model.save_pretrained(tmp_path / "prompt")

    assert refusal(folder, tmp_path / "prompt") == (
        f"{tmp_path / 'prompt'} is an adapter of the kind PROMPT_TUNING, which can't be merged into weights",
        None,
    )


def test_an_adapter_alone_is_no_model_and_its_base_is_named(folder, lora):
    file = lora / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "acme/bert"}))

    assert refusal(lora, lora) == (
        f"{lora} is an adapter, not a model",
        "name its base, acme/bert, in model_path and this folder in adapter_path, or merge the two and save the result",
    )


def test_an_adapter_beside_a_models_own_files_is_told_as_transformers_would_load_another_model(broken, lora):
    for file in lora.iterdir():
        shutil.copy(file, broken)

    assert refusal(broken, lora) == (
        f"{broken} is a model with an adapter beside it",
        "move adapter_config.json and its weights to a folder of their own, and name that in adapter_path",
    )


def test_without_peft_it_is_said_what_to_install(folder, lora, monkeypatch):
    import importlib.util

    from hfopt_hf_model_loader import adapters

    monkeypatch.setattr(adapters, "find_spec", lambda name: None if name == "peft" else importlib.util.find_spec(name))

    assert refusal(folder, lora) == ("adapter_path needs peft", "pip install 'hfopt-hf-model-loader[peft]'")

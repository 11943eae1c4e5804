"""model_file_format: a model or its weights in one file, described by a model that is named beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hfopt import Accelerator, FetchContext, PreconditionFailed, Reference
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

IDS = np.array([[2, 5, 6, 7, 3], [2, 6, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def changed(folder: Path):
    """The fixture model with other weights, so that the file counts and not the folder."""
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
    return model


def state_dict(model, file: Path) -> None:
    torch.save(model.state_dict(), file)


def checkpoint(model, file: Path) -> None:
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, file)


def safetensors(model, file: Path) -> None:
    from safetensors.torch import save_file

    save_file(model.state_dict(), file)


def torch_script(model, file: Path) -> None:
    model.set_attn_implementation("eager")
    model.config.return_dict = False
    inputs = {"input_ids": torch.tensor(IDS), "attention_mask": torch.tensor(MASK)}
    torch.jit.trace(model, example_kwarg_inputs={**inputs, "token_type_ids": torch.tensor(IDS) * 0}).save(file)


def entire(model, file: Path) -> None:
    torch.save(model, file)


FORMATS = {
    "state dict": (state_dict, "model.bin", "PyTorch.StateDict"),
    "checkpoint": (checkpoint, "model.pt", "PyTorch.StateDict"),
    "safetensors": (safetensors, "other.safetensors", "PyTorch.StateDict"),
    "TorchScript": (torch_script, "model.pt", "PyTorch.TorchScript"),
    "entire model": (entire, "model.pt", "PyTorch.EntireModel"),
}


def written(place: Path | str, kind: str | None, folder: Path | str, **options: object) -> dict:
    named = {"model_name": str(folder), "task": "text-classification"}
    return {"model_path": str(place), "model_file_format": kind, "hf_config": named, **options}


def read(options: dict, around: ConfigContext):
    problems: list = []
    found = validate(PyTorchModelConfig, options, (), problems, around)
    return found, [(".".join(each.path), each.message) for each in problems]


def fetch(options: dict):
    config, problems = read(options, ConfigContext(Path("/")))
    assert problems == []
    return PyTorchModel(config).fetch(FetchContext(Path(), lambda *_: None))


@pytest.mark.parametrize("case", FORMATS)
def test_a_file_is_the_model_that_was_saved(folder, tmp_path, case):
    save, name, kind = FORMATS[case]
    model = changed(folder)
    with torch.inference_mode():
        expected = model(torch.tensor(IDS), torch.tensor(MASK)).logits.numpy()
    save(model, tmp_path / name)

    handle = fetch(written(tmp_path / name, kind, folder, allow_pickle=kind == "PyTorch.EntireModel"))
    loader = PyTorchModel(PyTorchModelConfig.model_validate(handle.config))

    assert handle.files == (tmp_path / name,)
    assert {"tokenizer.json", "config.json"} <= {file.name for file in handle.companions}
    with loader.open(handle, Accelerator(), {}) as session:
        found = session.run({"input_ids": IDS, "attention_mask": MASK})
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)


def test_the_weights_of_a_state_dict_are_in_memory_once(folder, tmp_path):
    from hfopt_hf_model_loader import file_formats, session

    state_dict(changed(folder), tmp_path / "model.bin")
    handle = fetch(written(tmp_path / "model.bin", "PyTorch.StateDict", folder))
    kept = file_formats.tensors(tmp_path / "model.bin")
    before = file_formats.tensors
    file_formats.tensors = lambda _: dict(kept)
    try:
        config = PyTorchModelConfig.model_validate(handle.config)
        model = session.load(handle.path, config, "cpu")
        own = {name: each.data_ptr() for name, each in model.named_parameters()}
    finally:
        file_formats.tensors = before

    assert own.items() <= {name: each.data_ptr() for name, each in kept.items()}.items()


def test_a_pickle_that_is_not_allowed_is_refused_with_the_key(folder, tmp_path):
    entire(changed(folder), tmp_path / "model.pt")

    _, problems = read(written(tmp_path / "model.pt", "PyTorch.EntireModel", folder), ConfigContext(tmp_path))

    fact = f"{tmp_path}/model.pt is a pickle, which can run any code when it is loaded"
    assert problems == [("model_path", f"{fact}: if you trust it, set allow_pickle to true")]


def test_a_file_is_described_by_a_model_on_the_hub_too_without_its_weights(tmp_path):
    (tmp_path / "model.bin").touch()

    config, problems = read(written("model.bin", "PyTorch.StateDict", "acme/bert"), ConfigContext(tmp_path))

    options = {"name": "acme/bert", "revision": None, "weights": False}
    assert problems == []
    assert config.place == Reference("hf_model", options).token
    assert PyTorchModel.data_defaults(config)["model_name"] == config.place


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({"model_file_format": "PyTorch.StateDict", "model_path": "here"}, "model_path", "must be a local file, as"),
        ({"model_file_format": "PyTorch.TorchScript", "model_path": "a/b"}, "model_path", "must be a local file, as"),
        ({"model_path": "model.pt"}, "model_path", "is a file; a Hugging Face model is a folder with"),
        (
            {"model_file_format": "PyTorch.StateDict", "model_path": "model.pt", "hf_config": {"task": "ner"}},
            "hf_config",
            "needs model_name: whose config.json says what the file takes",
        ),
    ],
)
def test_a_file_without_what_it_needs_is_told_at_its_place(tmp_path, options, place, message):
    (tmp_path / "here").mkdir()
    (tmp_path / "model.pt").touch()

    _, problems = read({"hf_config": {"model_name": "here", "task": "ner"}, **options}, ConfigContext(tmp_path))

    assert [(each[0], message in each[1]) for each in problems] == [(place, True)]


def refusal(options: dict) -> tuple[str, str | None]:
    def load() -> None:
        handle = fetch(options)
        PyTorchModel(PyTorchModelConfig.model_validate(handle.config)).open(handle, Accelerator(), {})

    with pytest.raises(PreconditionFailed) as failure:
        load()
    return failure.value.message, failure.value.hint


def test_a_file_of_another_kind_is_told(folder, tmp_path):
    file = tmp_path / "model.pt"
    torch_script(changed(folder), file)
    allowed = written(file, "PyTorch.EntireModel", folder, allow_pickle=True)
    other = "set model_file_format to PyTorch.TorchScript, if it is that"
    assert refusal(allowed) == (f"{file} is damaged, or is not PyTorch.EntireModel", other)

    entire(changed(folder), file)
    assert (
        refusal(written(file, "PyTorch.TorchScript", folder))[0] == f"{file} is damaged, or is not PyTorch.TorchScript"
    )
    assert refusal(written(file, "PyTorch.StateDict", folder))[0].startswith(f"{file} holds more than tensors: ")

    torch.save([1], file)
    assert refusal(allowed) == (f"{file} holds a list, and no torch.nn.Module", None)


def test_weights_that_do_not_fit_the_model_that_is_named_are_told(folder, tmp_path):
    weights = changed(folder).state_dict()
    torch.save({name: each for name, each in weights.items() if name != "classifier.bias"}, tmp_path / "model.bin")
    options = written(tmp_path / "model.bin", "PyTorch.StateDict", folder)
    assert refusal(options)[0] == "the checkpoint lacks 1 weights of the model, such as classifier.bias"

    torch.save({**weights, "classifier.bias": torch.ones(5)}, tmp_path / "model.bin")
    assert "'classifier.bias' is [5] in the weights, and would be [2]" in refusal(options)[0]

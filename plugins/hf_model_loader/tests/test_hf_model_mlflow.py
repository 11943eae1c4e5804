"""PyTorch.MLflow: three layouts are one model, nothing is written into them, and what is missing is told."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from hfopt import Accelerator, FetchContext, PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
AZURE = {"task_type": "text-classification", "hf_pretrained_class": "AutoModelForSequenceClassification"}
STOCK = {
    "components": ["tokenizer"],
    "model_binary": "model",
    "pipeline_model_type": "BertForSequenceClassification",
    "task": "text-classification",
}


def describe(place: Path, flavors: object) -> None:
    place.mkdir(exist_ok=True)
    (place / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "mlflow_version": "3.17.2"}))


def copy(source: Path, target: Path, *names: str) -> None:
    target.mkdir(parents=True)
    for name in names:
        shutil.copy(source / name, target)


def in_three_parts(place: Path, model: Path) -> None:
    describe(place, {"hftransformersv2": AZURE, "python_function": {}})
    copy(model, place / "data" / "model", "config.json", "model.safetensors")
    copy(model, place / "data" / "config", "config.json")
    copy(model, place / "data" / "tokenizer", *TOKENIZER)


def in_one_part(place: Path, model: Path) -> None:
    describe(place, {"hftransformers": AZURE})
    copy(model, place / "data" / "model", "config.json", "model.safetensors", *TOKENIZER)


def stock(place: Path, model: Path) -> None:
    describe(place, {"python_function": {}, "transformers": STOCK})
    copy(model, place / "model", "config.json", "model.safetensors")
    copy(model, place / "components" / "tokenizer", *TOKENIZER)


def older_stock(place: Path, model: Path) -> None:
    describe(place, {"transformers": {key: STOCK[key] for key in ("pipeline_model_type", "task")}})
    copy(model, place / "pipeline", "config.json", "model.safetensors", *TOKENIZER)


LAYOUTS = {each.__name__: each for each in (in_three_parts, in_one_part, stock, older_stock)}


@pytest.fixture(params=LAYOUTS)
def logged(request, folder, tmp_path) -> Path:
    place = tmp_path / "logged"
    LAYOUTS[request.param](place, folder)
    return place


@pytest.fixture
def azure(folder, tmp_path) -> Path:
    in_three_parts(tmp_path / "logged", folder)
    return tmp_path / "logged"


def read(place: Path, **hf_config: object) -> PyTorchModelConfig:
    written = {"model_path": str(place), "model_file_format": "PyTorch.MLflow", "hf_config": hf_config or None}
    problems: list = []
    found = validate(PyTorchModelConfig, written, (), problems, ConfigContext(place.parent))
    assert problems == []
    return found


def fetch(place: Path, **hf_config: object):
    work = place.parent / "work"
    work.mkdir(exist_ok=True)
    return PyTorchModel(read(place, **hf_config)).fetch(FetchContext(work, lambda *_: None))


def refusal(place: Path, **hf_config: object) -> tuple[str, str | None]:
    with pytest.raises(PreconditionFailed) as failure:
        fetch(place, **hf_config)
    return failure.value.message.replace(f"{place}", "HERE"), failure.value.hint


def listing(place: Path) -> dict[str, bytes]:
    return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}


@pytest.mark.parametrize("written", [{}, {"model_name": "acme/bert", "task": "text-classification"}])
def test_every_layout_is_the_model_that_was_logged(logged, folder, written):
    from transformers import AutoModelForSequenceClassification

    before = listing(logged)
    handle = fetch(logged, **written)
    loader = PyTorchModel(PyTorchModelConfig.model_validate(handle.config))
    ids = np.array([[2, 5, 6, 3], [2, 7, 3, 0]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])

    with loader.open(handle, Accelerator(), {}) as session:
        found = session.run({"input_ids": ids, "attention_mask": mask})["logits"]

    import torch

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    np.testing.assert_array_equal(found, expected)
    assert {file.name for file in handle.companions} == {"config.json", *TOKENIZER}
    assert listing(logged) == before


def test_the_parts_are_hard_links_into_the_steps_folder(logged):
    handle = fetch(logged)

    assert handle.path == logged.parent / "work" / "model"
    assert all(os.stat(file).st_nlink == 2 for file in handle.path.iterdir())
    (weights,) = logged.rglob("model.safetensors")
    assert os.path.samefile(weights, handle.path / "model.safetensors")


def test_files_on_another_file_system_are_copied(azure, monkeypatch):
    import errno

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    handle = fetch(azure)

    assert (handle.path / "model.safetensors").read_bytes() == (azure / "data/model/model.safetensors").read_bytes()


def test_data_take_the_tokenizer_from_its_part_and_the_task_from_mlmodel(logged):
    defaults = PyTorchModel.data_defaults(read(logged))

    assert defaults["task"] == "text-classification"
    assert (Path(defaults["model_name"]) / "tokenizer.json").is_file()


def test_what_the_user_says_of_the_model_wins_over_mlmodel(azure):
    describe(azure, {"hftransformersv2": {"task_type": "fill-mask", "hf_pretrained_class": "AutoModelForMaskedLM"}})

    handle = fetch(azure, model_class="BertForSequenceClassification")

    assert handle.config["hf_config"]["model_class"] == "BertForSequenceClassification"
    assert handle.config["hf_config"]["task"] is None


def test_the_class_of_mlmodel_counts_where_its_task_is_none_of_transformers(azure):
    describe(azure, {"hftransformersv2": {**AZURE, "task_type": "multiclass"}})

    assert fetch(azure).config["hf_config"]["model_class"] == "AutoModelForSequenceClassification"


def test_config_json_is_that_of_its_own_part(azure):
    file = azure / "data" / "config" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "finetuning_task": "mrpc"}))

    assert fetch(azure).attributes["finetuning_task"] == "mrpc"


def rewrite(place: Path, **flavor: object) -> None:
    describe(place, {"transformers": {**STOCK, **flavor}})


def drop(place: Path, name: str) -> None:
    for found in place.rglob(name):
        found.unlink()


FAULTS = {
    "no MLmodel": (
        lambda place: drop(place, "MLmodel"),
        ("HERE is not an MLflow folder: it has no MLmodel", None),
    ),
    "not YAML": (
        lambda place: (place / "MLmodel").write_text("flavors: ["),
        ("HERE/MLmodel is not YAML: while parsing a flow node", None),
    ),
    "of something else": (
        lambda place: describe(place, {"python_function": {}, "sklearn": {}}),
        (
            "HERE/MLmodel is not of a model of Hugging Face: its flavors are python_function, sklearn",
            "those that are read are hftransformersv2, hftransformers and transformers",
        ),
    ),
    "no flavors": (
        lambda place: (place / "MLmodel").write_text("[]"),
        (
            "HERE/MLmodel is not of a model of Hugging Face: its flavors are none",
            "those that are read are hftransformersv2, hftransformers and transformers",
        ),
    ),
    "no weights": (
        lambda place: drop(place, "model.safetensors"),
        ("HERE is not whole: there is no model.safetensors in data/model", None),
    ),
    "no model at all": (
        lambda place: shutil.rmtree(place / "data"),
        ("HERE is not whole: there is no model.safetensors in data/model", None),
    ),
    "no config": (
        lambda place: drop(place, "config.json"),
        ("HERE is not whole: there is no config.json in data/model, data/config or data/tokenizer", None),
    ),
    "neither task nor class": (
        lambda place: describe(place, {"hftransformersv2": {}}),
        ("HERE/MLmodel says neither the model's task nor its class", "write hf_config.task"),
    ),
    "a part elsewhere": (
        lambda place: describe(place, {"hftransformersv2": {**AZURE, "model_data": "../model"}}),
        ("HERE/MLmodel names '../model', which lies outside of its folder", None),
    ),
    "a binary elsewhere": (
        lambda place: rewrite(place, model_binary="/etc"),
        ("HERE/MLmodel names '/etc', which lies outside of its folder", None),
    ),
    "a component elsewhere": (
        lambda place: rewrite(place, components=["../../model"]),
        ("HERE/MLmodel names 'components/../../model', which lies outside of its folder", None),
    ),
    "without weights": (
        lambda place: rewrite(place, source_model_name="acme/bert"),
        (
            "HERE was logged without weights, which are those of acme/bert",
            "set model_path to acme/bert, without model_file_format",
        ),
    ),
    "an adapter": (
        lambda place: rewrite(place, source_model_name="acme/bert", peft_adaptor="peft"),
        (
            "HERE holds an adapter, and its model is acme/bert",
            "set model_path to acme/bert without model_file_format, and adapter_path to {place}/peft",
        ),
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_an_mlflow_folder_lacks_is_told_with_where_it_was_looked_for(azure, case):
    damage, (message, hint) = FAULTS[case]
    damage(azure)

    assert refusal(azure) == (message, None if hint is None else hint.replace("{place}", str(azure)))


def test_a_link_out_of_the_folder_is_not_followed(azure):
    (azure / "data" / "tokenizer" / "merges.txt").symlink_to("/etc/passwd")

    message, _ = refusal(azure)

    assert message == "HERE/data/tokenizer/merges.txt is at /etc/passwd, which lies outside of HERE"


def test_a_folder_that_is_not_local_is_refused(tmp_path):
    problems: list = []
    validate(
        PyTorchModelConfig,
        {"model_path": "acme/logged", "model_file_format": "PyTorch.MLflow"},
        (),
        problems,
        ConfigContext(tmp_path),
    )

    assert [(each.path, each.message) for each in problems] == [
        (("model_path",), "must be a folder, not on the hub, as model_file_format is PyTorch.MLflow")
    ]

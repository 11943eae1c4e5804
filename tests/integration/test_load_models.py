"""What docs/how-to/load-models.md shows, run to a result whose numbers are torch's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "load-models.md"
IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def shown(heading: str) -> dict:
    """The first block of JSON below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    return json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])


@pytest.fixture
def project(thread):
    """A project of one pass, evaluated by accuracy and size."""
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    del thread.config["evaluators"]["e"]["metrics"][1]
    return thread


def run(project, heading: str) -> None:
    project.config |= shown(heading)
    done = project.run()
    assert done.returncode == 0, done.stderr


def best_logits(project) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(project.folder / "hfopt-output" / "best" / "model.onnx"))
    feeds = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": IDS * 0}
    return session.run(["logits"], {each.name: feeds[each.name] for each in session.get_inputs()})[0]


def logits(model) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=torch.tensor(IDS), attention_mask=torch.tensor(MASK)).logits.numpy()


def classifier(place: Path):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(place)


def test_model_path_is_what_is_loaded_whatever_model_name_says(project, tiny_model):
    shutil.copytree(tiny_model, project.folder / "path_to_local_model")

    run(project, "A local folder beside a name")

    np.testing.assert_allclose(best_logits(project), logits(classifier(tiny_model)), atol=1e-5)


def test_an_mlflow_folder_is_the_model_that_was_logged(project, tiny_model):
    logged = project.folder / "logged_model"
    for part, names in {
        "data/model": ("config.json", "model.safetensors"),
        "data/config": ("config.json",),
        "data/tokenizer": ("tokenizer.json", "tokenizer_config.json"),
    }.items():
        (logged / part).mkdir(parents=True)
        for name in names:
            shutil.copy(tiny_model / name, logged / part)
    (logged / "MLmodel").write_text("flavors: {hftransformersv2: {hf_pretrained_class: AutoModel, task_type: other}}")
    before = sorted(logged.rglob("*"))

    run(project, "An MLflow folder")

    np.testing.assert_allclose(best_logits(project), logits(classifier(tiny_model)), atol=1e-5)
    assert sorted(logged.rglob("*")) == before
    assert project.record()["results"][0]["input_model"]["metrics"]["accuracy-accuracy"]["n"] == 64
    assert (project.folder / "hfopt-output" / "best" / "tokenizer.json").is_file()


OWN_CONFIG = """
from transformers import BertConfig

class OwnConfig(BertConfig):
    model_type = "own"
"""
OWN_MODEL = """
from transformers import BertForSequenceClassification

from .configuration_own import OwnConfig

class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None):
        found = super().forward(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        found.logits = found.logits * FACTOR
        return found
"""


@pytest.fixture
def own(tmp_path, tiny_model) -> Path:
    """The small BERT as a model of a type that transformers has not: its code doubles the logits."""
    place = Path(shutil.copytree(tiny_model, tmp_path / "own"))
    (place / "configuration_own.py").write_text(OWN_CONFIG)
    (place / "modeling_own.py").write_text(OWN_MODEL.replace("FACTOR", "2"))
    auto_map = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForSequenceClassification": "modeling_own.OwnModel",
    }
    file = place / "config.json"
    changes = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": auto_map}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return place


@pytest.fixture
def modules(project, tmp_path) -> Path:
    """Where transformers keeps the code of models."""
    project.environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    return tmp_path / "modules"


def test_a_models_own_code_runs_if_it_is_trusted_and_counts(project, own, tiny_model, modules):
    project.config |= shown("A model that brings its own code")
    project.config["input_model"]["config"]["model_path"] = str(own)
    assert project.run().returncode == 0

    np.testing.assert_allclose(best_logits(project), 2 * logits(classifier(tiny_model)), atol=1e-5)
    assert {file.name for file in modules.rglob("*_own.py")} == {"configuration_own.py", "modeling_own.py"}

    (own / "modeling_own.py").write_text(OWN_MODEL.replace("FACTOR", "3"))
    assert project.run().returncode == 0

    assert project.steps()["conversion"]["cached"] is False
    np.testing.assert_allclose(best_logits(project), 3 * logits(classifier(tiny_model)), atol=1e-5)


def test_a_models_own_code_on_the_hub_is_fetched_only_if_it_is_trusted(project, own, tiny_model, hub, modules):
    hub.add_model("acme/own", own)
    project.environment |= hub.environment
    run(project, "A model that brings its own code")
    np.testing.assert_allclose(best_logits(project), 2 * logits(classifier(tiny_model)), atol=1e-5)

    hub.requests.clear()
    del project.config["input_model"]["config"]["hf_config"]["from_pretrained_args"]
    refused = project.run("--verbose")

    assert refused.returncode == 1
    assert "config.json names code of the model's own, " in refused.stderr
    assert "modeling_own.py" not in str(hub.requests)
    assert "set hf_config.from_pretrained_args.trust_remote_code to true" in refused.stderr


@pytest.fixture
def lora(tmp_path, tiny_model) -> Path:
    """A LoRA of the small BERT that changes its outputs."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(classifier(tiny_model), LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_()
    model.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_model_with_an_adapter_is_what_peft_makes_of_both(project, tiny_model, lora, hub, place):
    from peft import PeftModel

    project.config |= shown("A model with an adapter")
    if place == "folder":
        shutil.copytree(tiny_model, project.folder / "path_to_local_model")
        shutil.copytree(lora, project.folder / "path_to_adapter")
    else:
        hub.add_model("acme/tiny", tiny_model)
        hub.add_model("acme/lora", lora)
        project.environment |= hub.environment
        project.config["input_model"]["config"] |= {"model_path": "acme/tiny", "adapter_path": "acme/lora"}

    done = project.run()

    assert done.returncode == 0, done.stderr
    expected = logits(PeftModel.from_pretrained(classifier(tiny_model), lora))
    np.testing.assert_allclose(best_logits(project), expected, atol=1e-5)
    assert np.abs(expected - logits(classifier(tiny_model))).max() > 1e-3


@pytest.fixture
def exported(tmp_path, tiny_model) -> Path:
    """A repository with two exports of the small BERT as components of one model: one of classes, one of states."""
    import torch
    from transformers import AutoModel

    place = Path(shutil.copytree(tiny_model, tmp_path / "exported"))
    (place / "model.safetensors").unlink()
    models = {"decoder_model": classifier(tiny_model), "decoder_with_past_model": AutoModel.from_pretrained(tiny_model)}
    for name, model in models.items():
        model.set_attn_implementation("eager")
        output = "logits" if name == "decoder_model" else "last_hidden_state"
        torch.onnx.export(
            _by_position(model.eval(), output),
            (torch.tensor(IDS), torch.tensor(MASK)),
            place / f"{name}.onnx",
            input_names=["input_ids", "attention_mask"],
            output_names=[output],
            dynamic_axes={each: {0: "batch_size", 1: "sequence_length"} for each in ("input_ids", "attention_mask")},
            opset_version=17,
            dynamo=False,
        )  # fmt: skip
    return place


def _by_position(model, output):
    import torch

    class Positional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask)[output]

    return Positional().eval()


def run_onnx(file: Path) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(str(file)).run(None, {"input_ids": IDS, "attention_mask": MASK})[0]


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_an_exported_file_goes_through_a_pass_and_is_measured_against_itself(project, exported, tiny_model, hub, place):
    shutil.copytree(exported, project.folder / "acme" / "exported") if place == "folder" else hub.add_model(
        "acme/exported", exported
    )
    project.environment |= hub.environment
    project.config |= shown("ONNX files that are there already")
    project.config["input_model"]["config"]["model_components"] = ["decoder_model.onnx"]
    project.config["passes"] = {"quantization": {"type": "OnnxDynamicQuantization"}}

    done = project.run()

    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(run_onnx(exported / "decoder_model.onnx"), logits(classifier(tiny_model)), atol=1e-5)
    best = project.folder / "hfopt-output" / "best"
    np.testing.assert_allclose(run_onnx(next(best.glob("*.onnx"))), logits(classifier(tiny_model)), atol=0.05)
    assert (best / "tokenizer.json").is_file()
    candidate = project.record()["results"][0]["candidates"][0]
    assert candidate["size_bytes"] < (exported / "decoder_model.onnx").stat().st_size


def test_weights_in_a_file_are_those_of_the_model_that_is_named(project, tiny_model):
    import torch

    shutil.copytree(tiny_model, project.folder / "path_to_local_model")
    model = classifier(tiny_model)
    with torch.no_grad():
        model.classifier.weight *= 3
    torch.save(model.state_dict(), project.folder / "weights.pt")

    run(project, "A model in one file")

    np.testing.assert_allclose(best_logits(project), logits(model), atol=1e-5)


@pytest.mark.parametrize("kind", ["PyTorch.TorchScript", "PyTorch.EntireModel"])
def test_a_whole_model_in_a_file_is_converted_as_it_is(project, tiny_model, kind):
    import torch

    model = classifier(tiny_model)
    model.set_attn_implementation("eager")
    expected = logits(model)
    if kind == "PyTorch.TorchScript":
        model.config.return_dict = False
        inputs = {"input_ids": torch.tensor(IDS), "attention_mask": torch.tensor(MASK)}
        traced = torch.jit.trace(model, example_kwarg_inputs={**inputs, "token_type_ids": torch.tensor(IDS) * 0})
        traced.save(project.folder / "whole.pt")
    else:
        torch.save(model, project.folder / "whole.pt")
    shutil.copytree(tiny_model, project.folder / "path_to_local_model")
    project.config |= shown("A model in one file")
    options = {"model_path": "whole.pt", "model_file_format": kind}
    project.config["input_model"]["config"] |= options
    if kind == "PyTorch.EntireModel":
        assert "whole.pt is a pickle, which can run any code when it is loaded" in project.run().stderr
        project.config["input_model"]["config"]["allow_pickle"] = True

    done = project.run()

    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(best_logits(project), expected, atol=1e-5)

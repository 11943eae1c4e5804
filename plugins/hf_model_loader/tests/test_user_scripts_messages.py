"""What a user is told of a script that does not do what is asked of it."""

from __future__ import annotations

import pytest

from hfopt import FetchContext, PreconditionFailed
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.io_config import IoConfig
from hfopt_hf_model_loader.loader import PyTorchModel

SCRIPT = """
import torch

def load(model_path):
    return torch.nn.Linear(4, 2)

def nothing(model):
    pass

def one(model):
    return {"x": torch.ones(2, 4)}

def unnamed(model):
    return {"output_names": ["y"]}

def fails(model):
    return 1 / 0

def part(model):
    return model.load_model()
"""
IO = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {"0": "batch"}}}


@pytest.fixture
def opened(tmp_path):
    """Describes a model of the script and runs it on what it is known to take."""

    def go(text=SCRIPT, **options):
        (tmp_path / "s.py").write_text(text)
        written = {"model_script": str(tmp_path / "s.py"), "model_loader": "load", "io_config": IO, **options}
        loader = PyTorchModel(PyTorchModelConfig.model_validate(written, strict=False))
        handle = loader.fetch(FetchContext(tmp_path, lambda *_: None))
        config = PyTorchModelConfig.model_validate(handle.config, strict=False)
        from hfopt import Accelerator

        with PyTorchModel(config).open(handle, Accelerator(), {}) as session:
            return handle, session.run(session.example)

    return go


def test_a_loader_and_dummy_inputs_are_a_model(opened):
    handle, found = opened(dummy_inputs_func="one")

    assert [(spec.name, spec.axes) for spec in handle.inputs] == [("x", ("batch", 4))]
    config = PyTorchModelConfig.model_validate(handle.config, strict=False)
    assert PyTorchModel(config).snippet(handle) == "", "transformers does not know how to load it"
    assert found["y"].shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"dummy_inputs_func": "ones"}, "{script} has no function 'ones'", "did you mean 'one'?"),
        (
            {"dummy_inputs_func": "one", "component_func": "prt"},
            "{script} has no function 'prt'",
            "did you mean 'part'?",
        ),
        (
            {"dummy_inputs_func": "one", "component_func": "nothing"},
            "{script}: nothing must return a torch.nn.Module, and returned None",
            None,
        ),
        (
            {"dummy_inputs_func": "one", "model_loader": "one"},
            "{script}: one must return a torch.nn.Module, and returned a dict",
            None,
        ),
        (
            {"dummy_inputs_func": "one", "io_config": "unnamed"},
            "{script}: unnamed must return an io_config with input_names",
            None,
        ),
        (
            {"dummy_inputs_func": "one", "io_config": "nothing"},
            "{script}: nothing must return an io_config, a dict, and returned None",
            None,
        ),
        (
            {"dummy_inputs_func": "one", "io_config": {**IO, "input_names": ["x", "z"]}},
            "{script}: one: the dummy inputs lack 'z', which input_names of io_config have",
            None,
        ),
        (
            {"dummy_inputs_func": "one", "io_config": {**IO, "output_names": ["y", "z"]}},
            "the model returns 1 tensors, and io_config has 2 output_names",
            None,
        ),
        (
            {"dummy_inputs_func": "nothing"},
            "{script}: nothing: dummy inputs are a dict, a tuple or a tensor, and these are None",
            None,
        ),
        (
            {},
            "what the model takes is not known: io_config has no input_shapes, and there is no dummy_inputs_func",
            "write one of the two",
        ),
        (
            {"dummy_inputs_func": "fails"},
            "{script}, line 17: fails fails: ZeroDivisionError: division by zero\n    return 1 / 0",
            None,
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_told_in_a_sentence(opened, tmp_path, options, message, hint):
    with pytest.raises(PreconditionFailed) as failed:
        opened(**options)

    assert failed.value.message == message.format(script=tmp_path / "s.py")
    assert failed.value.hint == hint


def test_a_script_that_imports_olive_is_told_what_is_there_without(opened, tmp_path):
    with pytest.raises(PreconditionFailed) as failed:
        opened(f"from olive.model import OliveModelHandler\n{SCRIPT}", dummy_inputs_func="one")

    line = "from olive.model import OliveModelHandler"
    fact = "can't be loaded: ModuleNotFoundError: No module named 'olive'"
    assert failed.value.message == f"{tmp_path / 's.py'}, line 1: {fact}\n    {line}"
    assert failed.value.hint == "remove the import: OliveModelHandler, Framework and Registry are there without it"


@pytest.mark.parametrize(("written", "read"), [("torch.int64", "int64"), ("bool", "bool")])
def test_a_dtype_is_known_by_its_name_with_or_without_its_module(written, read):
    config = IoConfig.model_validate({"input_names": ["x"], "input_types": [written]}, strict=False)

    assert config.input_types == (read,)


@pytest.mark.parametrize("written", ["int46", "ones"])
def test_a_dtype_that_is_none_is_refused(written):
    with pytest.raises(ValueError, match=r"Input should be 'bfloat16', 'bool'"):
        IoConfig.model_validate({"input_names": ["x"], "input_types": [written]}, strict=False)

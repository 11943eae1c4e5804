"""What a function may return for data, and what a user is told of one that does not do what is asked of it."""

from __future__ import annotations

import numpy as np
import pytest

from hfopt import DataContext, PreconditionFailed
from hfopt.testing import scored, validate
from hfopt_data_containers.custom import Custom
from hfopt_data_containers.functions import DataloaderFunc, EvaluateFunc, Functions, figures
from hfopt_data_containers.processed import output_of

SCRIPT = """
import numpy as np
import torch

def named(data_dir, batch_size):
    return [({"x": torch.ones(batch_size, 3)}, torch.zeros(batch_size))]

def reader(data_dir, batch_size, model_framework):
    class Reader:
        left = 2
        def get_next(self):
            self.left -= 1
            return {"x": np.ones((1, 3))} if self.left >= 0 and model_framework == Framework.ONNX else None
    return Reader()

def endless(data_dir, batch_size, dtype="float32"):
    class Loader:
        def __getitem__(self, row):
            return (torch.ones(1, 2, dtype=torch.bfloat16), np.full(1, row, dtype)), None
    return Loader()

def sized(data_dir, batch_size):
    class Loader:
        def __len__(self):
            return 3
        def __getitem__(self, row):
            return np.ones((1, 2)), row
    return Loader()

def nothing(data_dir, batch_size):
    pass

def objects(data_dir, batch_size):
    return [({"x": object()}, None)]

def unequal(data_dir, batch_size):
    yield {"x": np.ones((2, 3))}, [0, 1, 2]

def breaks(data_dir, batch_size):
    yield {"x": np.ones((2, 3))}, [0, 1]
    raise KeyError("lost")

def judge(model, data_dir, batch_size, device, execution_providers):
    pass

def mean(output, targets):
    return {"mean": output[1].mean()}

def text(output, targets):
    return "good"
"""


def config(tmp_path, text=SCRIPT, **options):
    (tmp_path / "s.py").write_text(text)
    return Functions.model_validate({"user_script": str(tmp_path / "s.py"), **options}, strict=False)


@pytest.fixture
def batches(tmp_path):
    def go(function, **options):
        container = DataloaderFunc(config(tmp_path, dataloader_func=function, **options))
        container.prepare(DataContext(tmp_path, lambda *_: None))
        return [*container.open(tmp_path).batches()]

    return go


def test_a_dataloader_yields_named_inputs_and_labels(batches):
    (batch,) = batches("named", batch_size=4)

    assert {name: each.shape for name, each in batch.feeds.items()} == {"x": (4, 3)}
    assert batch.labels.tolist() == [0, 0, 0, 0]


def test_a_calibration_reader_is_read_to_its_end_and_is_told_the_framework(batches):
    found = batches("reader")

    assert [each.feeds["x"].shape for each in found] == [(1, 3), (1, 3)]
    assert [each.labels for each in found] == [None, None]


def test_inputs_without_names_are_numbered_and_a_loader_without_an_end_yields_four_batches(batches):
    found = batches("endless", func_kwargs={"dataloader_func": {"dtype": "int64"}})

    assert [each.feeds["1"].tolist() for each in found] == [[0], [1], [2], [3]]
    assert (found[0].feeds["0"].dtype, found[0].feeds["1"].dtype) == (np.float32, np.int64)


def test_a_loader_with_a_length_yields_as_many_batches(batches):
    assert [each.labels.tolist() for each in batches("sized")] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("function", "message", "hint"),
    [
        ("name", "{script} has no function 'name'", "did you mean 'named'?"),
        (
            "nothing",
            "{script}: nothing must return a dataloader, and returned None",
            "an iterable of (inputs, labels), or an onnxruntime CalibrationDataReader",
        ),
        ("objects", "{script}: objects, batch 0: x is no array, but a object", "of tensors or numbers"),
        ("unequal", "batch 0 has 2 rows and 3 labels", None),
        (
            "breaks",
            "{script}, line 41: what a function returned fails: KeyError: 'lost'\n    raise KeyError(\"lost\")",
            None,
        ),
    ],
)
def test_what_is_wrong_with_a_function_of_rows_is_told(batches, tmp_path, function, message, hint):
    with pytest.raises(PreconditionFailed) as failed:
        batches(function)

    assert failed.value.message == message.format(script=tmp_path / "s.py")
    assert failed.value.hint == hint


def test_a_script_that_imports_olive_is_told_what_is_there_without(tmp_path):
    line = "from olive.data.registry import Registry"
    container = EvaluateFunc(config(tmp_path, f"{line}\n{SCRIPT}", evaluate_func="judge"))

    with pytest.raises(PreconditionFailed) as failed:
        container.prepare(DataContext(tmp_path, lambda *_: None))

    fact = "can't be loaded: ModuleNotFoundError: No module named 'olive'"
    assert failed.value.message == f"{tmp_path / 's.py'}, line 1: {fact}\n    {line}"
    assert failed.value.hint == "remove the import: OliveModelHandler, Framework and Registry are there without it"


def test_several_outputs_are_found_by_name_as_attributes_and_by_position():
    found = output_of({"logits": np.ones((2, 3)), "state": np.zeros(2)})

    assert found.logits.shape == found["logits"].shape == found[0].shape == (2, 3)
    with pytest.raises(AttributeError, match=r"^the model has no output 'loss'; it has logits, state$"):
        getattr(found, "loss")  # noqa: B009 - what a script writes


@pytest.mark.parametrize(("found", "told"), [(1, "1.0"), (np.float32(0.5), "0.5"), ({"a": np.ones(1)}, '{"a": 1.0}')])
def test_a_function_that_judges_returns_a_number_or_numbers(found, told):
    assert figures(found, "s.py: judge") == told


@pytest.mark.parametrize(("found", "kind"), [(None, "None"), ("0.5", "a str"), ({"a": [1, 2]}, "a dict")])
def test_it_may_return_nothing_else(found, kind):
    with pytest.raises(PreconditionFailed) as failed:
        figures(found, "s.py: judge")

    assert failed.value.message == f"s.py: judge must return a number, or a dict of numbers, and returned {kind}"


LOGITS, LABELS = np.array([[0.0, 2.0], [4.0, 1.0]], dtype=np.float32), np.array([1, 0])


def test_a_metric_of_a_function_has_a_value_and_nothing_else(tmp_path):
    found = scored(Custom().statistic("mean", config(tmp_path, metric_func="mean")), LOGITS, LABELS, 2 * LOGITS)

    assert (found.value, found.low, found.high, found.n) == (1.75, None, None, None)
    assert (found.difference.value, found.difference.low) == (-1.75, None)


def test_a_figure_that_a_function_does_not_return_is_told(tmp_path):
    with pytest.raises(PreconditionFailed) as failed:
        scored(Custom().statistic("meen", config(tmp_path, metric_func="mean")), LOGITS, LABELS)

    assert failed.value.message == f"{tmp_path / 's.py'}: mean returned mean, and no 'meen'"
    assert failed.value.hint == "did you mean 'mean'?"


def test_a_custom_metric_needs_a_function(tmp_path):
    with pytest.raises(ValueError, match=r"^evaluate_func or metric_func is required: a custom metric is what a"):
        Custom().statistic("mean", config(tmp_path))


def test_a_function_needs_a_script():
    problems = []

    validate(Functions, {"metric_func": "mean"}, (), problems)

    assert [(each.path, each.message) for each in problems] == [
        (("metric_func",), "mean is a function, and there is no user_script")
    ]

"""DataContainer, DummyDataContainer, RawDataContainer: what they yield, and what a user is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hfopt import DataContext, PreconditionFailed
from hfopt.testing import validate
from hfopt_data_containers.shaped import DummyData, RawData
from hfopt_data_containers.user_data import UserData

SCRIPT = """
import numpy as np

@Registry.register_dataset("Rows")
def load(count, shapes=((2,),)):
    return [({"x": np.ones(shapes[row % len(shapes)])}, row) for row in range(count)]

def pieces(dataset, batch_size):
    for row in range(0, len(dataset), batch_size):
        yield np.stack([inputs["x"] for inputs, _ in dataset[row : row + batch_size]]), None

def mappings(count):
    return [{"x": np.ones(2), "label": row} for row in range(count)]

def mixed(count):
    return [({"x": 1.0}, 0), ({"y": 1.0}, 0)]
"""


def opened(container, folder, **entry):
    """A container's rows, as a config's entry has them; its places are checked on the way."""
    section = container.Section.model_validate_json(json.dumps(entry))
    read = container.read(section, {})
    assert read.problems == ()
    config = container.Config.model_validate_json(json.dumps(read.params))
    made = container(container.Config.model_validate_json(config.model_dump_json()))
    made.prepare(DataContext(folder, lambda *_: None))
    return made.open(folder)


@pytest.fixture
def script(tmp_path):
    (tmp_path / "s.py").write_text(SCRIPT)
    return str(tmp_path / "s.py")


def user_data(script, folder, load="Rows", params=None, **components):
    written = {"load_dataset": {"type": load, "params": params}, **components}
    return opened(UserData, folder, user_script=script, components=written, params_config={"count": 5, "batch_size": 2})


def test_rows_of_a_registered_function_are_put_together(script, tmp_path):
    batches = [*user_data(script, tmp_path).batches()]

    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch.feeds["x"].shape for batch in batches] == [(2, 2), (2, 2), (1, 2)]


def test_a_dataloader_of_ones_own_makes_the_batches(script, tmp_path):
    batches = [*user_data(script, tmp_path, dataloader={"type": "pieces"}).batches()]

    assert [{name: each.shape for name, each in batch.feeds.items()} for batch in batches] == [
        {"0": (2, 2)},
        {"0": (2, 2)},
        {"0": (1, 2)},
    ]


def test_a_row_may_be_a_mapping_that_holds_its_label(script, tmp_path):
    batches = [*user_data(script, tmp_path, load="mappings").batches()]

    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [*batches[0].feeds] == ["x"]


def test_rows_that_are_batches_already_stay_as_they_are(script, tmp_path):
    loader = {"type": "skip_dataloader"}
    with pytest.raises(PreconditionFailed, match=r"^batch 0 has 2 rows and 1 labels$"):
        user_data(script, tmp_path, dataloader=loader)

    assert len(user_data(script, tmp_path, params={"shapes": [[1, 2]]}, dataloader=loader)) == 5


@pytest.mark.parametrize(
    ("load", "params", "message", "hint"),
    [
        (
            "Rows",
            {"shapes": [[2], [3]]},
            "rows that share a batch have x of different shapes: [2] and [3]",
            "set batch_size to 1, or name a dataloader that pads",
        ),
        ("mixed", None, "row 1 has y, and row 0 x", None),
    ],
)
def test_rows_that_can_not_share_a_batch_are_told(script, tmp_path, load, params, message, hint):
    with pytest.raises(PreconditionFailed) as failed:
        [*user_data(script, tmp_path, load, params).batches()]

    assert failed.value.message == message
    assert failed.value.hint == hint


def test_an_option_that_no_function_takes_is_told(script, tmp_path):
    with pytest.raises(PreconditionFailed) as failed:
        opened(
            UserData,
            tmp_path,
            user_script=script,
            components={"load_dataset": {"type": "Rows"}},
            params_config={"counts": 5},
        )

    assert failed.value.message == f"no function of {script} takes 'counts', an option in params_config"
    assert failed.value.hint == "did you mean 'count'?"


@pytest.mark.parametrize(
    ("components", "place", "message"),
    [
        ({}, ("components", "load_dataset", "type"), "is required: a function of user_script that returns a dataset"),
        (
            {"load_dataset": {"type": "simple_dataset"}},
            ("components", "load_dataset", "type"),
            "loads nothing; name a function of user_script",
        ),
    ],
)
def test_a_dataset_must_be_loaded_by_a_function(script, components, place, message):
    section = UserData.Section(user_script=script, components=components)

    (problem,) = UserData.read(section, {}).problems

    assert (problem.path, problem.message) == (place, message)


SHAPES = {"input_names": ["ids", "image"], "input_shapes": [[2, 4], [2, 1, 3]], "input_types": ["int64", "float16"]}


def test_dummy_data_are_256_batches_of_ones_that_are_stored_once(tmp_path):
    data = opened(DummyData, tmp_path, params_config=SHAPES)

    batches = [*data.batches()]
    assert (len(batches), len(data)) == (256, 512)
    for name, shape, kind in zip(*SHAPES.values(), strict=True):
        np.testing.assert_array_equal(batches[255].feeds[name], np.ones(shape, kind))
        assert batches[255].feeds[name].dtype == kind
    assert batches[255].labels.tolist() == [0, 0]
    assert (tmp_path / "arrays.bin").stat().st_size < 1_000


@pytest.fixture
def raw(tmp_path):
    """Two files of each of two inputs, and their labels."""
    for name, kind in (("ids", "int64"), ("pixels", "float16")):
        (tmp_path / name).mkdir()
        for row in range(2):
            shape = SHAPES["input_shapes"][["int64", "float16"].index(kind)]
            (np.ones(shape) * (row + 1)).astype(kind).tofile(tmp_path / name / f"{row}.raw")
    np.save(tmp_path / "labels.npy", np.array([[7, 8], [9, 10]]))
    (tmp_path / "order.txt").write_text("1\n0\n")
    return {**SHAPES, "data_dir": str(tmp_path), "input_dirs": ["ids", "pixels"], "annotations_file": "labels.npy"}


def test_raw_files_are_batches_in_the_order_of_a_file(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    written = {"params": {**raw, "input_order_file": "order.txt", "input_suffix": ".raw"}}

    batches = [*opened(RawData, folder, components={"load_dataset": written}).batches()]

    assert [batch.feeds["ids"].tolist() for batch in batches] == [[[2] * 4] * 2, [[1] * 4] * 2]
    assert [batch.feeds["image"].dtype for batch in batches] == [np.float16] * 2
    assert [batch.labels.tolist() for batch in batches] == [[7, 8], [9, 10]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_types": ["int32", "float16"]}, "{folder}/ids/0.raw has 64 bytes, and int32 [2, 4] takes 32"),
        ({"input_dirs": ["id", "pixels"]}, "no such folder: {folder}/id"),
        ({"annotations_file": "label.npy"}, "no such file: {folder}/label.npy"),
        ({"input_order_file": "../../order.txt"}, "../../order.txt leads out of {folder}"),
        ({"input_suffix": ".bin"}, "labels.npy has 2 labels for 0 files"),
    ],
)
def test_raw_files_that_are_not_as_stated_are_told(raw, tmp_path, tmp_path_factory, change, message):
    with pytest.raises(PreconditionFailed) as failed:
        opened(RawData, tmp_path_factory.mktemp("artifact"), params_config={**raw, **change})

    assert failed.value.message == message.format(folder=tmp_path)


def test_a_shape_for_each_input_is_needed():
    problems = []

    validate(DummyData.Config, {"input_names": ["a", "b"], "input_shapes": [[1]]}, (), problems)

    assert [(each.path, each.message) for each in problems] == [(("input_shapes",), "has 1 entries, and input_names 2")]

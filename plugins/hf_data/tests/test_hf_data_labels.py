"""Labels as people have them: by name, several per row, numbers."""

from __future__ import annotations

import json

import datasets
import pytest

from hfopt import PreconditionFailed

TEXTS = ["good film", "bad film", "a film"]


@pytest.fixture
def model(model_folder, tmp_path):
    """Makes a model folder whose config states something else of its classes."""

    def made(names, **attributes):
        folder = tmp_path / "own-model"
        folder.mkdir()
        for file in model_folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        classes = {"label2id": {name: number for number, name in enumerate(names)}}
        classes["id2label"] = {str(number): name for number, name in enumerate(names)}
        (folder / "config.json").write_text(json.dumps({"model_type": "bert", **classes, **attributes}))
        return folder

    return made


@pytest.fixture
def write_parquet(tmp_path):
    def write(**columns):
        features = columns.pop("features", None)
        table = datasets.Dataset.from_dict({"text": TEXTS, **columns})
        if features:
            table = table.cast(datasets.Features({**table.features, **features}))
        table.to_parquet(tmp_path / "rows.parquet")

    return write


def labels(data):
    return [label for batch in data.batches() for label in batch.labels.tolist()]


def parquet(prepare, model, label_cols="label"):
    columns = {"input_cols": "text", "label_cols": label_cols}
    return prepare(model=model, data_name="parquet", data_files="rows.parquet", **columns)


def test_a_columns_own_names_are_the_models_whatever_their_order_and_case(prepare, model, write_parquet):
    named = datasets.ClassLabel(names=["Neutral", "Contradiction", "Entailment"])
    write_parquet(label=[0, 1, 2], features={"label": named})

    data = parquet(prepare, model(["contradiction", "entailment", "neutral"]))

    assert labels(data) == [2, 0, 1]


def test_integers_stay_where_nothing_names_them(prepare, model, write_parquet):
    write_parquet(label=[2, 0, 1], features={"label": datasets.ClassLabel(names=["a", "b", "c"])})

    assert labels(parquet(prepare, model(["LABEL_0", "LABEL_1", "LABEL_2"]))) == [2, 0, 1]


def test_a_name_in_another_case_is_the_models(prepare, write_csv):
    write_csv(("good", "FRESH"), ("bad", "Rotten"))

    assert labels(prepare()) == [1, 0]


def test_a_column_with_a_class_that_the_model_lacks_is_refused(prepare, model, write_parquet):
    write_parquet(label=[0, 1, 1], features={"label": datasets.ClassLabel(names=["entailment", "nutral"])})

    with pytest.raises(PreconditionFailed, match=r"the column has a class 'nutral'") as failure:
        parquet(prepare, model(["contradiction", "entailment", "neutral"]))
    assert failure.value.hint == "did you mean 'neutral'?"


def test_columns_of_0_and_1_are_several_labels_in_the_models_order(prepare, model, write_parquet):
    write_parquet(joy=[1, 0, 0], anger=[1, 1, 0], fear=[0, 0, 1])

    data = parquet(prepare, model(["anger", "fear", "joy"]), label_cols=["joy", "anger", "fear"])

    assert labels(data) == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "column", [[[1, 0, 1], [1, 0, 0], [0, 0, 0]], [["Anger", "joy"], ["anger"], []], [[0, 2], [0], []]]
)
def test_a_list_is_several_labels_by_flag_name_or_number(prepare, model, write_parquet, column):
    write_parquet(label=column)

    data = parquet(prepare, model(["anger", "fear", "joy"], problem_type="multi_label_classification"))

    assert labels(data) == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_labels_of_a_model_with_one_output_are_numbers(prepare, model, write_parquet):
    write_parquet(label=[0.5, 3.25, 5.0])

    assert labels(parquet(prepare, model(["LABEL_0"]))) == [0.5, 3.25, 5.0]


@pytest.mark.parametrize(
    ("names", "columns", "label_cols", "sentence"),
    [
        (["LABEL_0"], {"label": ["a", "b", "c"]}, "label", "row 0 has 'a' for a label, and the model yields a number"),
        (["LABEL_0"], {"label": [0.5, None, 1.0]}, "label", "row 1 has no label"),
        (["a", "b"], {"a": [0, 1, 2], "b": [0, 0, 1]}, ["a", "b"], "row 2: label 2 of several is neither 0 nor 1"),
        (["a", "b", "c"], {"label": [["a"], ["d"], []]}, "label", "row 1: label 'd' is not one of the model's"),
    ],
)
def test_other_labels_are_refused(prepare, model, write_parquet, names, columns, label_cols, sentence):
    write_parquet(**columns)

    with pytest.raises(PreconditionFailed, match=sentence):
        parquet(prepare, model(names), label_cols)

"""HuggingfaceContainer: what it prepares, what it reads back, what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hfopt import DataContext, PreconditionFailed
from hfopt.api.config import Surroundings
from hfopt.config.problems import validate
from hfopt_hf_data.config import HuggingfaceContainerConfig, with_defaults
from hfopt_hf_data.container import HuggingfaceContainer

TEXTS = [("a good film", 1), ("bad", 0), ("a bad bad film", 0), ("good good", 1)]


def write_csv(folder, rows=TEXTS, name="rows.csv"):
    (folder / name).write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))


@pytest.fixture
def prepared(tmp_path, model_folder):
    """Prepares params in a folder of their own and opens them."""

    def prepare(folder="out", **params):
        problems = []
        defaults = {"model_name": str(model_folder), "task": "text-classification"}
        written = with_defaults(
            {"data_name": "csv", "data_files": "rows.csv", "label_cols": ["label"], **params}, defaults
        )
        config = validate(HuggingfaceContainerConfig, written, (), problems, Surroundings(tmp_path))
        assert problems == []
        container = HuggingfaceContainer(config)
        (tmp_path / folder).mkdir()
        container.prepare(DataContext(tmp_path / folder, lambda *_: None))
        return container.open(tmp_path / folder)

    return prepare


def problems_of(folder, **params):
    problems = []
    validate(HuggingfaceContainerConfig, {"data_name": "csv", **params}, (), problems, Surroundings(folder))
    return [(".".join(map(str, problem.path)), problem.message, problem.hint) for problem in problems]


def test_rows_are_what_the_tokenizer_gives_each_on_its_own(tmp_path, prepared, model_folder):
    from transformers import AutoTokenizer

    write_csv(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    batches = list(prepared().batches())

    assert [batch.labels.tolist() for batch in batches] == [[1], [0], [0], [1]]
    for batch, (text, _) in zip(batches, TEXTS, strict=True):
        expected = tokenizer(text, return_tensors="np")
        assert batch.feeds.keys() == expected.keys()
        assert all((batch.feeds[name] == expected[name]).all() for name in expected)
        assert all(array.dtype == np.int64 for array in batch.feeds.values())


def test_a_batch_is_padded_to_its_longest_row_with_the_tokenizers_padding(tmp_path, prepared):
    write_csv(tmp_path)

    first, second = prepared(batch_size=2).batches()

    assert first.feeds["input_ids"].tolist() == [[2, 8, 5, 7, 3], [2, 6, 3, 0, 0]]
    assert first.feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert second.rows.tolist() == [2, 3]


def test_chosen_rows_come_in_the_order_asked_for(tmp_path, prepared):
    write_csv(tmp_path)

    found = [int(batch.rows[0]) for batch in prepared().batches([3, 0])]

    assert found == [3, 0]


def test_rows_longer_than_the_model_takes_are_cut(tmp_path, prepared):
    write_csv(tmp_path, [("good " * 30, 1)])

    (batch,) = prepared().batches()

    assert batch.feeds["input_ids"].shape == (1, 8)


def test_max_samples_and_splits_choose_rows(tmp_path, prepared):
    write_csv(tmp_path)
    write_csv(tmp_path, TEXTS[:1], "other.csv")

    assert len(prepared(max_samples=3)) == 3
    assert len(prepared("b", split="train[:2]")) == 2
    assert len(prepared("c", data_files={"train": "rows.csv", "test": "other.csv"}, split="test")) == 1
    assert len(prepared("d", data_files=["rows.csv", "other.csv"])) == 5


def test_component_kwargs_win_over_flat_options(tmp_path, prepared):
    write_csv(tmp_path)

    data = prepared(
        max_samples=4, component_kwargs={"pre_process_data": {"max_samples": 1}, "dataloader": {"batch_size": 2}}
    )

    assert len(data) == 1


def test_json_lines_and_label_names_are_read(tmp_path, prepared):
    rows = [{"review": "good film", "verdict": "fresh"}, {"review": "bad", "verdict": "rotten"}]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))

    data = prepared(data_name="json", data_files="rows.json", input_cols="review", label_cols="verdict")

    assert [int(batch.labels[0]) for batch in data.batches()] == [1, 0]


def test_preparing_twice_yields_the_same_bytes_and_leaves_nothing_else(tmp_path, prepared):
    write_csv(tmp_path)
    prepared("one")
    prepared("two")

    names = sorted(path.name for path in (tmp_path / "one").rglob("*"))
    assert names == ["rows.arrow", "settings.json"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_post_processing_takes_the_largest_logit(tmp_path, prepared):
    write_csv(tmp_path)

    found = prepared().post_process({"hidden": np.zeros((2, 4)), "logits": np.array([[0.1, 0.2], [3.0, -1.0]])})

    assert found.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("params", "message", "hint"),
    [
        ({"input_cols": "txet"}, "the data have no column 'txet'; they have text, label", "did you mean 'text'?"),
        ({"label_cols": "stars"}, "the data have no column 'stars'; they have text, label", None),
        (
            {"data_files": {"train": "rows.csv", "test": "rows.csv"}, "split": "tset"},
            "data_files has no split 'tset'; it has train, test",
            "did you mean 'test'?",
        ),
    ],
)
def test_what_the_data_have_not_is_named(tmp_path, prepared, params, message, hint):
    write_csv(tmp_path)

    with pytest.raises(PreconditionFailed) as failure:
        prepared(**params)

    assert (failure.value.message, failure.value.hint) == (message, hint)


def test_a_label_that_the_model_does_not_know_is_named(tmp_path, prepared):
    write_csv(tmp_path, [("good", "fresh"), ("bad", "rottn")])

    with pytest.raises(PreconditionFailed, match="label 'rottn' is not one of the model's; they are rotten, fresh"):
        prepared()


def test_mistakes_in_options_are_found_without_reading_any_data(tmp_path):
    write_csv(tmp_path)

    assert problems_of(tmp_path, data_files="rows.csv", padding_side="left")[0][:2] == ("padding_side", "unknown key")
    assert problems_of(tmp_path, data_files="none.csv") == [("data_files", "no such file or folder: none.csv", None)]
    assert problems_of(tmp_path, component_kwargs={"pre_process_data": {"max_lenght": 3}}) == [
        ("component_kwargs.pre_process_data.max_lenght", "unknown key", "did you mean 'max_length'?")
    ]
    assert problems_of(tmp_path, task="translation")[0][1] == (
        "data for translation are not prepared in this version; text-classification are"
    )
    assert problems_of(tmp_path, data_name="glue")[0][1] == (
        "no local format (datasets are not fetched from a hub in this version) named 'glue'; "
        "there is csv, json, parquet, text"
    )

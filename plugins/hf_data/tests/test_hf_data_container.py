"""HuggingfaceContainer: what it prepares and what it reads back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hfopt import PreconditionFailed

TEXTS = [("a good film", 1), ("bad", 0), ("a bad bad film", 0), ("good good", 1)]


def ids(data, **chosen):
    return [batch.feeds["input_ids"].tolist() for batch in data.batches(**chosen)]


def test_rows_are_what_the_tokenizer_gives_each_on_its_own(prepare, write_csv, model_folder):
    from transformers import AutoTokenizer

    write_csv(*TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    batches = list(prepare().batches())

    assert [batch.rows.tolist() for batch in batches] == [[0], [1], [2], [3]]
    assert [batch.labels.tolist() for batch in batches] == [[1], [0], [0], [1]]
    for batch, (text, _) in zip(batches, TEXTS, strict=True):
        expected = tokenizer(text, return_tensors="np")
        assert batch.feeds.keys() == expected.keys()
        assert all((batch.feeds[name] == expected[name]).all() for name in expected)
        assert {array.dtype.name for array in (*batch.feeds.values(), batch.labels)} == {"int64"}


def test_a_batch_is_padded_to_its_longest_row_with_the_tokenizers_padding(prepare, write_csv):
    write_csv(*TEXTS[:3])

    first, second = prepare(batch_size=2).batches()

    assert first.feeds["input_ids"].tolist() == [[2, 8, 5, 7, 3], [2, 6, 3, 0, 0]]
    assert first.feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert second.rows.tolist() == [2]


def test_the_side_and_the_filler_of_padding_are_the_tokenizers(prepare, write_csv, model_folder, tmp_path):
    from transformers import AutoTokenizer

    write_csv(*TEXTS[:2])
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left", pad_token="[MASK]")
    tokenizer.save_pretrained(tmp_path / "left")

    (batch,) = prepare(model=tmp_path / "left", batch_size=2).batches()

    assert batch.feeds["input_ids"].tolist() == [[2, 8, 5, 7, 3], [4, 4, 2, 6, 3]]
    assert batch.feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_padding_to_max_length_gives_every_batch_one_width(prepare, write_csv):
    write_csv(*TEXTS)

    to_the_models = prepare(padding="max_length", batch_size=3)
    to_a_given = prepare("given", padding="max_length", max_length=4)

    assert [batch.feeds["input_ids"].shape for batch in to_the_models.batches()] == [(3, 8), (1, 8)]
    assert ids(to_a_given)[:2] == [[[2, 8, 5, 3]], [[2, 6, 3, 0]]]


def test_chosen_rows_come_in_the_order_asked_for(prepare, write_csv):
    write_csv(*TEXTS)

    (batch,) = prepare(batch_size=8).batches([3, 0])

    assert batch.rows.tolist() == [3, 0]
    assert batch.labels.tolist() == [1, 1]
    assert batch.feeds["input_ids"].tolist() == [[2, 5, 5, 3, 0], [2, 8, 5, 7, 3]]


def test_rows_tell_their_lengths_so_that_those_of_equal_length_can_share_a_batch(prepare, write_csv):
    write_csv(*TEXTS)

    data = prepare()

    assert data.lengths().dtype == np.int64
    assert data.lengths().tolist() == [len(row) for (row,) in ids(data)] == [5, 3, 6, 4]
    assert [batch.rows.tolist() for batch in data.batches([1, 3, 0], size=2)] == [[1, 3], [0]]


def test_padding_to_one_width_makes_equal_lengths(prepare, write_csv):
    write_csv(*TEXTS)

    assert prepare(padding="max_length").lengths().tolist() == [8, 8, 8, 8]


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_size_that_is_written_forbids_to_put_rows_together_in_another_way(prepare, write_csv, size):
    write_csv(*TEXTS)

    flat = prepare(batch_size=size)
    by_component = prepare("nested", component_kwargs={"dataloader": {"batch_size": size}})

    assert flat.lengths() is by_component.lengths() is None
    assert [len(rows) for rows in ids(by_component)] == [len(rows) for rows in ids(flat)] == [size] * (4 // size)
    assert prepare("null", component_kwargs={"dataloader": {"batch_size": None}}).lengths() is not None


def test_rows_without_padding_come_alone_or_with_rows_of_their_length(prepare, write_csv):
    write_csv(("good", 1), ("a bad film", 0), ("bad", 0))
    data = prepare(padding=False)

    assert [len(rows) for rows in ids(data)] == [1, 1, 1]
    assert ids(data, rows=[0, 2], size=8) == [[[2, 5, 3], [2, 6, 3]]]


def test_more_rows_than_are_tokenised_at_once_keep_their_order(prepare, write_csv):
    write_csv(*(("good " * (1 + row % 3), row % 2) for row in range(2_301)))
    reports = []

    data = prepare(progress=lambda *report: reports.append(report))

    assert reports == [("tokenise", 1000, 2301), ("tokenise", 2000, 2301), ("tokenise", 2301, 2301)]
    assert len(data) == len(data.lengths()) == 2301
    assert data.lengths()[[999, 1000]].tolist() == [3, 4]
    assert [batch.labels.tolist() for batch in data.batches([0, 999, 1000, 2300])] == [[0], [1], [0], [0]]
    assert ids(data, rows=[999, 1000]) == [[[2, 5, 3]], [[2, 5, 5, 3]]]


def test_rows_longer_than_the_model_takes_are_cut(prepare, write_csv, model_folder, tmp_path):
    write_csv(("good " * 30, 1))
    unlimited = Path(shutil.copytree(model_folder, tmp_path / "unlimited"))
    settings = json.loads((unlimited / "tokenizer_config.json").read_text())
    (unlimited / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": int(1e30)}))
    (unlimited / "config.json").write_text('{"max_position_embeddings": 6}')

    lengths = [
        len(ids(each)[0][0])
        for each in (
            prepare(),
            prepare("model", model=unlimited),
            prepare("given", max_length=5),
            prepare("whole", truncation=False),
        )
    ]

    assert lengths == [8, 6, 5, 32]


def test_pairs_of_texts_are_two_segments(prepare, write_csv):
    write_csv(("good", "a film", 1), header="text,other,label")

    (batch,) = prepare(input_cols=["text", "other"]).batches()

    assert batch.feeds["input_ids"].tolist() == [[2, 5, 3, 8, 7, 3]]
    assert batch.feeds["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_max_samples_is_applied_before_tokenising(prepare, write_csv):
    write_csv(*TEXTS)
    reports = []

    data = prepare(max_samples=3, progress=lambda *report: reports.append(report))

    assert len(data) == 3
    assert reports == [("tokenise", 3, 3)]


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        (None, ["a good film", "bad", "a bad bad film"]),
        ("validation", ["a good film", "bad", "a bad bad film"]),
        ("train[:2]", ["a good film", "bad"]),
        ("validation[1:2]+test[-1:]", ["bad", "a bad bad film"]),
        ("train[:100]", ["a good film", "bad", "a bad bad film"]),
    ],
)
def test_files_without_names_are_all_the_data_whatever_the_split_is_called(prepare, write_csv, split, texts):
    write_csv(*TEXTS[:2])
    write_csv(TEXTS[2], name="more.csv")

    data = prepare(data_files=["rows.csv", "more.csv"], split=split)

    words = {"a good film": [8, 5, 7], "bad": [6], "a bad bad film": [8, 6, 6, 7]}
    assert [row[0][1:-1] for row in ids(data)] == [words[text] for text in texts]


@pytest.mark.parametrize(("split", "rows"), [("test", 1), ("train[:50%]+test", 2), (None, 2)])
def test_files_by_split_are_chosen_by_their_name(prepare, write_csv, split, rows):
    write_csv(*TEXTS[:2])
    write_csv(TEXTS[2], name="test.csv")
    by_split = {"train": "rows.csv", "test": ["test.csv"], "validation": ["rows.csv"]}

    assert len(prepare(data_files=by_split, split=split)) == rows


def test_options_by_component_win_over_flat_ones(prepare, write_csv):
    write_csv(*TEXTS)
    nested = {
        "load_dataset": {"split": "train[1:]"},
        "pre_process_data": {"max_samples": 2, "max_length": None},
        "dataloader": {"batch_size": 2},
    }

    data = prepare(max_samples=4, max_length=3, batch_size=1, component_kwargs=nested)

    assert ids(data) == [[[2, 6, 3], [2, 8, 3]]]


@pytest.mark.parametrize("name", ["json", "parquet"])
def test_other_formats_and_label_names_are_read(prepare, tmp_path, name):
    import pyarrow
    import pyarrow.parquet

    rows = [{"review": "good film", "verdict": "fresh"}, {"review": "bad", "verdict": "rotten"}]
    if name == "json":
        (tmp_path / "rows").write_text("\n".join(map(json.dumps, rows)))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows")

    data = prepare(data_name=name, data_files="rows", input_cols="review", label_cols="verdict")

    assert [int(batch.labels[0]) for batch in data.batches()] == [1, 0]


def test_without_label_cols_there_are_no_labels(prepare, tmp_path):
    (tmp_path / "rows.txt").write_text("a good film\nbad\n")

    data = prepare(data_name="text", data_files="rows.txt", label_cols=None)

    assert [batch.labels for batch in data.batches()] == [None, None]


def test_the_only_column_of_text_need_not_be_named(prepare, write_csv):
    write_csv((7, "good", "fresh"), header="number,text,label")

    assert ids(prepare()) == [[[2, 5, 3]]]


def test_preparing_twice_yields_the_same_bytes_and_leaves_nothing_else(prepare, write_csv, tmp_path):
    write_csv(*TEXTS)
    prepare("one")
    prepare("two")

    names = sorted(path.name for path in (tmp_path / "one").rglob("*"))
    assert names == ["layout.json", "rows.arrow"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_a_prediction_is_the_logits(prepare, write_csv):
    write_csv(*TEXTS)
    data = prepare()
    logits = np.array([[0.1, 0.2], [3.0, -1.0]], dtype=np.float32)

    assert np.array_equal(data.post_process({"hidden": np.zeros((2, 4)), "logits": logits}), logits)
    assert np.array_equal(data.post_process({"output_0": logits}), logits)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_outputs_that_are_not_numbers_predict_nothing(prepare, write_csv, dtype):
    write_csv(*TEXTS)
    data = prepare()
    logits = np.array([[0.1, 0.2], [np.nan, -1.0]], dtype=dtype)

    with pytest.raises(PreconditionFailed, match=r"not numbers \(NaN\) for 1 of 2 rows"):
        data.post_process({"logits": logits})
    infinite = np.array([[-np.inf, 0.25], [np.inf, 1]], dtype=dtype)
    assert np.array_equal(data.post_process({"logits": infinite}), infinite)


RECORD_SOCKETS = """
import socket, sys
asked = []
def refuse(*arguments, **_):
    asked.append(arguments)
    raise OSError("blocked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import huggingface_hub  # as in a worker that has opened a model before
"""


def test_preparing_asks_no_host_and_leaves_nothing_in_the_home_folder(tmp_path, write_csv, model_folder):
    write_csv(*TEXTS)
    params = {"data_name": "csv", "data_files": "rows.csv", "label_cols": "label", "model_name": str(model_folder)}
    program = f"""{RECORD_SOCKETS}
from pathlib import Path
from hfopt import DataContext
from hfopt_hf_data.container import HuggingfaceContainer
Path("out").mkdir()
config = HuggingfaceContainer.Config.model_validate_json({json.dumps(params)!r})
HuggingfaceContainer(config).prepare(DataContext(Path("out"), lambda *_: None))
print(asked)
"""
    home = tmp_path / "home"
    home.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_neither_options_nor_prepared_rows_need_a_framework(prepare, write_csv, tmp_path):
    write_csv(*TEXTS)
    prepare()
    heavy = {"torch", "transformers", "datasets", "evaluate"}
    program = f"""
import sys
from pathlib import Path
from hfopt_hf_data.container import HuggingfaceContainer
print(({heavy} | {{"pyarrow"}}) & set(sys.modules))
config = HuggingfaceContainer.Config.model_validate_json('{{"data_name": "csv", "data_files": "r", "model_name": "m"}}')
print(len(list(HuggingfaceContainer(config).open(Path("out")).batches())))
print({heavy} & set(sys.modules))
"""

    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout == "set()\n4\nset()\n", done.stderr

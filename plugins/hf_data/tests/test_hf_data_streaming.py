"""Streams are read no further than the rows that are wanted; files of text may be written in other ways."""

from __future__ import annotations

import json

import datasets
import pytest

from hfopt import PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_data.config import HuggingfaceContainerConfig


def rows_of(data):
    return [(batch.feeds["input_ids"][0].tolist()[1:-1], int(batch.labels[0])) for batch in data.batches()]


@pytest.mark.parametrize("name", ["csv", "json", "parquet", "arrow"])
@pytest.mark.parametrize("most", [3, 5_000])
def test_a_stream_holds_the_rows_that_reading_everything_does(prepare, tmp_path, name, most):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["FRESH", "rotten"])}
    )
    table = {
        "text": ["good bad film a"[: 4 + row % 12] for row in range(2_500)],
        "label": [row % 2 for row in range(2_500)],
    }
    data = datasets.Dataset.from_dict(table, features=features)
    if name == "arrow":
        data.save_to_disk(tmp_path / "saved")
        (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(tmp_path / "rows")
    else:
        getattr(data, f"to_{name}")(tmp_path / "rows")
    params = {"data_name": name, "data_files": "rows", "max_samples": most}

    streamed = prepare("streamed", streaming=True, **params)

    assert len(streamed) == min(most, 2_500)
    assert rows_of(streamed) == rows_of(prepare("whole", **params))


@pytest.mark.parametrize(
    ("params", "option", "message"),
    [
        ({"streaming": True}, "max_samples", "is required: streaming is true"),
        (
            {"streaming": True, "max_samples": 9, "split": "train[:5]"},
            "split",
            "streaming reads one split from its first row on: name it alone",
        ),
        (
            {"streaming": True, "max_samples": 9, "data_name": "imagefolder"},
            "streaming",
            "is of rows in files, and imagefolder has a file for each",
        ),
        ({"data_name": "json", "sep": ";"}, "sep", "is of csv, and data_name is json"),
        (
            {"data_name": "parquet", "encoding": "utf-16"},
            "encoding",
            "is of csv and json and text, and data_name is parquet",
        ),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, params, option, message):
    (tmp_path / "rows.csv").touch()
    problems = []

    written = {"data_name": "csv", "data_files": "rows.csv", "model_name": ".", **params}
    validate(HuggingfaceContainerConfig, written, (), problems, ConfigContext(tmp_path))

    assert [(*problem.path, problem.message) for problem in problems] == [(option, message)]


@pytest.mark.parametrize("streaming", [True, False])
def test_csv_files_may_be_written_in_other_ways(prepare, tmp_path, streaming):
    (tmp_path / "rows.csv").write_bytes("'good; film';FRESH\nnaïf bad;rotten\n".encode("latin-1"))
    options = {"delimiter": ";", "quotechar": "'", "encoding": "latin-1", "column_names": ["text", "label"]}

    data = prepare(streaming=streaming, max_samples=9, component_kwargs={"load_dataset": options})

    assert rows_of(data) == [([5, 1, 7], 1), ([1, 6], 0)]


def test_rows_of_a_json_file_may_stand_under_a_key(prepare, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"version": 1, "data": [{"text": "good", "label": 1}]}))

    assert rows_of(prepare(data_name="json", data_files="rows.json", field="data")) == [([5], 1)]


def test_an_empty_stream_is_told(prepare, tmp_path):
    datasets.Dataset.from_dict({"text": [], "label": []}).to_parquet(tmp_path / "rows.parquet")

    with pytest.raises(PreconditionFailed, match=r"can't read rows from .*rows.parquet as parquet: it has no rows"):
        prepare(data_name="parquet", data_files="rows.parquet", streaming=True, max_samples=3)

"""Predictions are made once, in batches of rows that are alike, and kept in the rows' order whatever their shapes."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hfopt.worker import predictions
from hfopt.worker.steps.predict import alike

ELEMENTS = st.sampled_from(["int64", "float32", "<U5"])


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 8))
def test_every_row_is_in_one_batch_with_rows_of_its_own_length(lengths, largest):
    batches = list(alike(np.array(lengths), largest))

    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len({lengths[row] for row in batch}) == 1 and len(batch) <= largest for batch in batches)
    fewest = sum(-(-count // largest) for count in Counter(lengths).values())
    assert len(batches) == fewest


@given(data=st.data(), dtype=ELEMENTS, rank=st.integers(0, 2), count=st.integers(1, 6), labelled=st.booleans())
def test_predictions_of_any_shapes_are_read_as_they_were_written(tmp_path_factory, data, dtype, rank, count, labelled):
    folder = tmp_path_factory.mktemp("artifact")
    shapes = st.tuples(*[st.integers(0, 4)] * rank)
    rows = [data.draw(arrays.arrays(dtype, data.draw(shapes))) for _ in range(count)]

    predictions.write(folder, rows, rows if labelled else None)
    said, labels = predictions.read(folder)

    assert len(said) == count
    for written, read in zip(rows, said, strict=True):
        np.testing.assert_array_equal(read, written)
        assert np.asarray(read).shape == written.shape
    assert (labels is not None) is labelled


@pytest.fixture
def pieces(project):
    """A project whose container predicts by itself, in pieces of different lengths."""
    project.config["data_configs"][0]["type"] = "Pieces"
    project.config["evaluators"]["e"]["metrics"][0]["sub_types"] = [{"name": "length"}]
    return project


def test_a_container_may_predict_itself_and_its_predictions_may_be_ragged(pieces):
    assert pieces.run().returncode == 0

    points = json.loads((pieces.folder / "points.json").read_text())
    expected = np.mean([round(10 * 0.5 * x) for x, _ in points])
    found = pieces.record["results"][0]["input_model"]["metrics"]["accuracy-length"]
    assert found["value"] == pytest.approx(expected)
    assert found["n"] == 200


def test_rows_of_equal_length_go_in_batches_of_at_most_32(pieces):
    assert pieces.run().returncode == 0

    batches = [line.removeprefix("predict ") for line in pieces.executed if line.startswith("predict")]
    points = json.loads((pieces.folder / "points.json").read_text())
    counts = Counter(int(x) for x, _ in points)
    assert len(batches) == 2 * sum(-(-count // 32) for count in counts.values())
    assert max(int(batch.split(" of ")[1]) for batch in batches) == 32


def test_raw_timings_are_kept_with_the_measurement(project):
    timing = {"warmup_num": 1, "repeat_test_num": 32}
    latency = {"name": "latency", "type": "latency", "data_config": "points"}
    latency["sub_types"] = [{"name": "avg", "metric_config": timing}]
    project.config["evaluators"]["e"]["metrics"].append(latency)

    assert project.run().returncode == 0

    key = next(step["key"] for step in project.candidate["steps"] if step["name"] == "measure third")
    blocks = np.load(project.folder / ".hfopt-cache" / "artifacts" / key[:2] / key / "blocks.npy")
    assert blocks.shape == (2, 16, 2)
    assert project.candidate["metrics"]["latency-avg"]["value"] == pytest.approx(blocks[1].mean())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ("PointSet.predict = lambda *_: [0.0] * 99", "99 predictions for "),
        (
            "whole = PointSet.batches\nPointSet.batches = lambda *a, **b: "
            "(dataclasses.replace(each, labels=np.resize(each.labels, 99)) for each in whole(*a, **b))",
            "99 labels for ",
        ),
    ],
)
def test_predictions_and_labels_are_as_many_as_rows(project, spoil, sentence):
    plugin = project.folder / "short.py"
    plugin.write_text(f"{project.plugin.read_text()}\n\nimport dataclasses\n{spoil}\n")
    project.plugin = plugin

    done = project.run()

    assert done.returncode == 1
    assert re.search(rf"no result: predict input_model: {sentence}\d+ rows of a batch\n", done.stdout)
    assert "hint: what predicts, or yields batches, must yield one for each row\n" in done.stderr
    assert "Traceback" not in done.stderr

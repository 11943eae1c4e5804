"""Batches are kept as they were made, and rows of them are found wherever they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt import PreconditionFailed
from hfopt_data_containers.batches import Made, Stored, write


def nothing(*_):
    pass


def made(sizes, labelled=True, alone=False):
    """Batches whose rows are numbers that count through."""
    start, found = 0, []
    for size in sizes:
        rows = np.arange(start, start + size)
        feeds = {"x": rows[:, None].astype(np.float32), "y": rows * 10}
        found.append(Made(feeds | ({"scale": np.array(start)} if alone else {}), rows if labelled else None))
        start += size
    return found


SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@given(SIZES, st.booleans())
def test_batches_are_read_as_they_were_made(tmp_path_factory, sizes, labelled):
    folder = tmp_path_factory.mktemp("artifact")
    batches = made(sizes, labelled)
    write(batches, folder, nothing)

    found = [*Stored(folder).batches()]

    assert len(Stored(folder)) == sum(sizes)
    for batch, read in zip(batches, found, strict=True):
        for name, array in batch.feeds.items():
            np.testing.assert_array_equal(read.feeds[name], array)
            assert read.feeds[name].dtype == array.dtype
        assert (read.labels is None) is not labelled
        assert read.rows.tolist() == batch.feeds["x"][:, 0].tolist()


@given(SIZES, st.data(), st.booleans(), st.booleans())
def test_any_rows_come_in_batches_of_any_size(tmp_path_factory, sizes, data, labelled, alone):
    folder = tmp_path_factory.mktemp("artifact")
    write(made(sizes, labelled, alone), folder, nothing)
    rows = data.draw(st.lists(st.integers(0, sum(sizes) - 1), min_size=1, max_size=8))
    size = data.draw(st.none() | st.integers(1, 4))

    found = [*Stored(folder).batches(rows, size=size)]

    assert [row for batch in found for row in batch.rows] == rows
    for batch in found:
        assert len(batch.rows) <= (size or max(sizes))
        assert batch.feeds["x"][:, 0].tolist() == batch.rows.tolist()
        assert batch.feeds["y"].tolist() == [10 * row for row in batch.rows]
        if labelled:
            assert batch.labels.tolist() == batch.rows.tolist()
        if alone:
            starts = np.cumsum([0, *sizes])
            assert {starts[np.searchsorted(starts, row, "right") - 1] for row in batch.rows} == {
                int(batch.feeds["scale"])
            }
    if not alone:
        assert len(found) == -(-len(rows) // (size or max(sizes)))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "the data has no rows"),
        ([Made({}, np.zeros(2))], "batch 0 has no inputs"),
        ([*made([2]), Made({"x": np.zeros((3, 1))}, np.zeros(2))], "batch 1 has 3 rows and 2 labels"),
    ],
)
def test_batches_that_are_none_are_told(tmp_path, batches, message):
    with pytest.raises(PreconditionFailed) as failed:
        write(batches, tmp_path, nothing)

    assert failed.value.message == message

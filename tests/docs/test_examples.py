"""The example configs validate, on a stand-in for what `make quickstart` prepares, and search what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

import hfopt
from hfopt.api.search import points

REVIEWS = Path(__file__).parents[2] / "examples" / "reviews"


@pytest.fixture
def example(tmp_path):
    """An example, validated where there are only the files that it names."""
    prepared = tmp_path / "build" / "quickstart"
    (prepared / "model").mkdir(parents=True)
    (prepared / "model" / "config.json").write_text('{"model_type": "bert"}')
    for name in ("held_out.csv", "calibration.csv"):
        (prepared / name).write_text("text,label\ngood,1\n")

    def validate(name):
        folder = tmp_path / "examples" / "reviews"
        folder.mkdir(parents=True)
        (folder / name).write_bytes((REVIEWS / name).read_bytes())
        return hfopt.validate(folder / name)

    return validate


@pytest.mark.parametrize("name", sorted(path.name for path in REVIEWS.glob("*.json")))
def test_every_example_validates_without_a_word(example, name):
    assert example(name).notices == ()


@pytest.mark.parametrize(("name", "count"), [("search.json", 36), ("recipes.json", 13)])
def test_a_search_has_as_many_points_as_the_docs_say(example, name, count):
    assert len(list(points(example(name).search.space))) == count

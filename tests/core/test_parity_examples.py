"""The examples on which two models are compared, and when their outputs count as the same."""

from __future__ import annotations

import numpy as np
import pytest

from hfopt import PreconditionFailed, Session, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.api.parity import compare, record

SPECS = tuple(
    TensorSpec(name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=high)
    for name, high in {"input_ids": 30, "attention_mask": 2}.items()
)


class Computes(Session):
    """A model that is a function of its feeds."""

    inputs, outputs, live = SPECS, (), None

    def __init__(self, function):
        self.function = function

    def run(self, feeds):
        return {"out": self.function(feeds)}

    def bind(self, feeds):
        return lambda: self.run(feeds)


def up_to(positions):
    def function(feeds):
        if feeds["input_ids"].shape[1] > positions:
            raise PreconditionFailed("index out of range in self")
        return feeds["input_ids"].astype(np.float32)

    return function


@pytest.mark.parametrize(
    ("positions", "shapes"),
    [(512, [(1, 7), (2, 16), (4, 21)]), (16, [(1, 7), (2, 16), (4, 10)]), (5, [(1, 3), (2, 4), (4, 5)])],
)
def test_a_model_of_few_positions_is_compared_on_shorter_rows(positions, shapes):
    examples = record(Computes(up_to(positions)), SPECS)

    assert [example.feeds["input_ids"].shape for example in examples] == shapes
    assert examples[-1].feeds["attention_mask"].min() == 0


def test_a_shape_that_the_model_never_takes_is_left_out():
    def one_row(feeds):
        if len(feeds["input_ids"]) > 1:
            raise PreconditionFailed("no padding token is defined")
        return np.ones(1)

    assert [len(example.feeds["input_ids"]) for example in record(Computes(one_row), SPECS)] == [1]


def test_the_reason_of_a_model_that_takes_no_shape_is_its_first():
    with pytest.raises(PreconditionFailed, match="index out of range"):
        record(Computes(up_to(0)), SPECS)


def agree(before, after):
    examples = record(Computes(before), SPECS)
    return compare(examples, Computes(after))["agree"]


def logits(*values):
    return lambda feeds: np.tile(np.array(values, np.float32), (len(feeds["input_ids"]), 1))


INFINITE, NOTHING = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ((1, INFINITE), (1, INFINITE), True),
        ((1, NOTHING), (1, NOTHING), True),
        ((1, -INFINITE), (1.1, -INFINITE), False),
        ((1, INFINITE), (1, -INFINITE), False),
        ((1, INFINITE), (1, 7), False),
        ((1, NOTHING), (1, 7), False),
        ((1, 7), (1, INFINITE), False),
        ((1, 7), (1, NOTHING), False),
        ((1e-3, 0), (2e-3, 0), False),
    ],
)
def test_what_is_infinite_or_no_number_must_be_so_in_both_and_does_not_hide_the_rest(before, after, same):
    assert agree(logits(*before), logits(*after)) is same


@pytest.mark.parametrize("width", [None, 3], ids=["one a token", "vectors"])
def test_what_a_model_says_of_padding_does_not_count(width):
    def of_tokens(padding):
        def function(feeds):
            per_token = np.where(feeds["attention_mask"] == 1, feeds["input_ids"], padding).astype(np.float32)
            return per_token if width is None else np.repeat(per_token[..., None], width, axis=-1)

        return function

    assert agree(of_tokens(0), of_tokens(99))
    assert not agree(of_tokens(0), lambda feeds: of_tokens(0)(feeds) + 1)


def test_what_a_model_keeps_of_padding_by_head_does_not_count():
    def of_tokens(padding):
        def function(feeds):
            per_token = np.where(feeds["attention_mask"] == 1, feeds["input_ids"], padding).astype(np.float32)
            return np.tile(per_token[:, None, :, None], (1, 3, 1, 2))

        return function

    assert agree(of_tokens(0), of_tokens(99))
    assert not agree(of_tokens(0), lambda feeds: of_tokens(0)(feeds) + 1)


def test_the_mask_of_what_an_encoder_has_read_is_padded_like_that_of_tokens():
    spec = TensorSpec(name="encoder_attention_mask", dtype="int64", axes=("batch_size", "encoder_sequence_length"))

    mask = example_feeds([spec], {"batch_size": 3, "encoder_sequence_length": 4}, padded=True)[spec.name]

    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_boxes_have_corners_in_order(seed):
    spec = TensorSpec(name="bbox", dtype="int64", axes=("batch_size", "sequence_length", 4), high=100)

    boxes = example_feeds([spec], {"batch_size": 2, "sequence_length": 5}, seed=seed)["bbox"]

    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    assert (left <= right).all()
    assert (top <= bottom).all()
    assert 0 <= boxes.min() < boxes.max() < 100


def test_nothing_is_allowed_of_outputs_that_are_zero_if_absolute_is_too():
    examples = record(Computes(lambda feeds: np.zeros(2)), SPECS)

    same = compare(examples, Computes(lambda feeds: np.zeros(2)), absolute=0.0)
    other = compare(examples, Computes(lambda feeds: np.full(2, 1e-30 * len(feeds["input_ids"]))), absolute=0.0)

    assert same == {"agree": True, "outputs": {"out": {"difference": 0.0, "allowed": 0.0}}}
    assert other == {"agree": False, "outputs": {"out": {"difference": 4e-30, "allowed": 0.0}}}

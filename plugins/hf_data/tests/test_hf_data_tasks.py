"""Data of tasks that read text: what rows become, and what a row is told that can't be prepared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hfopt import PreconditionFailed, TensorSpec
from hfopt_hf_data.answers import OUTSIDE, best_span
from hfopt_hf_data.tokenise import positions
from hfopt_hf_model_loader.session import TorchSession

GOOD, BAD, FILM, A, LY = range(5, 10)
CLS, SEP, MASK = 2, 3, 4


AXES = ("batch_size", "sequence_length")


def model_that(function, *names):
    """A model in PyTorch whose outputs are a function of token ids."""
    import torch

    class Model(torch.nn.Module):
        def forward(self, input_ids):
            found = function(input_ids)
            return dict(zip(names, found, strict=True)) if len(names) > 1 else {names[0]: found}

    return TorchSession(Model(), [TensorSpec(name="input_ids", dtype="int64", axes=AXES)])


@pytest.fixture
def write(tmp_path):
    def written(*rows):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return written


@pytest.fixture
def prepared(prepare):
    """Prepares rows.jsonl for a task."""

    def made(task, folder="out", **params):
        return prepare(
            folder, task=task, **{"data_name": "json", "data_files": "rows.jsonl", "label_cols": None, **params}
        )

    return made


@pytest.fixture
def refused(prepared, tmp_path):
    def told(task, **params):
        with pytest.raises(PreconditionFailed) as failure:
            prepared(task, **params)
        return failure.value.message.removeprefix(f"{tmp_path / 'rows.jsonl'}: ")

    return told


@pytest.fixture
def variant(model_folder, tmp_path):
    """The model's folder with other settings."""

    def changed(tokenizer=None, **config):
        folder = Path(shutil.copytree(model_folder, tmp_path / "variant", dirs_exist_ok=True))
        for name, more in (("tokenizer_config.json", tokenizer or {}), ("config.json", config)):
            (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | more))
        return folder

    return changed


TAGGED = {"tokens": ["good", "badly", "film"], "tags": ["fresh", "rotten", "FRESH"]}


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_that_begin_no_word_have_no_label(write, prepared, variant, side):
    write(TAGGED, {"tokens": ["film"], "tags": ["rotten"]})

    data = prepared("ner", label_cols="tags", batch_size=2, model=variant({"padding_side": side}))
    (batch,) = data.batches()

    long, short = [-100, 1, 0, -100, 1, -100], [-100, 0, -100]
    pad = [-100] * 3
    assert batch.feeds["input_ids"][0].tolist() == [CLS, GOOD, BAD, LY, FILM, SEP]
    assert data.token_labels(batch).tolist() == [long, pad + short if side == "left" else short + pad]
    assert [row.tolist() for row in batch.labels] == [["fresh", "rotten", "fresh"], ["rotten"]]
    model = model_that(lambda ids: torch.stack([ids == BAD, ids != BAD], dim=-1).float(), "logits")
    assert [row.tolist() for row in data.predict(model, batch)] == [
        ["fresh", "rotten", "fresh"],
        ["fresh"],
    ]


def test_words_beyond_the_most_tokens_and_those_that_are_not_to_count_are_left_out(write, prepared):
    write({"tokens": ["film"] * 9, "tags": [0, -100, *[1] * 7]})
    (batch,) = prepared("ner", "lists", label_cols="tags").batches()
    write({"tokens": "good film", "tags": "rotten fresh"})
    (texts,) = prepared("ner", "texts", input_cols="tokens", label_cols="tags").batches()

    assert batch.labels[0].tolist() == ["rotten", *["fresh"] * 4]
    assert texts.labels[0].tolist() == ["rotten", "fresh"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tags": ["fresh"]}, "row 0 has 3 words and 1 tags: each word has one tag"),
        (
            {"tags": ["fresh", "stale", "fresh"]},
            "row 0: label 'stale' is not one of the model's; they are rotten, fresh",
        ),
        ({"tags": 3}, "row 0 has 3 words and 3: each word has one tag"),
        ({"tokens": 5}, "which column holds the words? The columns are tokens, tags"),
    ],
)
def test_tags_that_do_not_fit_are_told(write, refused, row, message):
    write(TAGGED | row)

    assert refused("token-classification", label_cols="tags") == message


def test_a_mask_is_drawn_by_the_seed_and_never_replaces_a_special_token(write, prepared):
    write(*({"text": "good bad film a"} for _ in range(40)), {"text": ""})

    first, again, other = (
        list(prepared("fill-mask", f"seed{number}", random_seed=seed).batches())
        for number, seed in enumerate((1, 1, 2))
    )

    rows = [batch.feeds["input_ids"][0].tolist() for batch in first]
    assert len(rows) == 40  # the empty text is left out
    assert all(row.count(MASK) == 1 and (row[0], row[-1]) == (CLS, SEP) for row in rows)
    assert {row.index(MASK) for row in rows} == {1, 2, 3, 4}
    assert [int(batch.labels[0]) for batch in first] == [[GOOD, BAD, FILM, A][row.index(MASK) - 1] for row in rows]
    assert rows == [batch.feeds["input_ids"][0].tolist() for batch in again]
    assert rows != [batch.feeds["input_ids"][0].tolist() for batch in other]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_word_is_found_where_its_mask_is(write, prepared, variant, side):
    write({"text": "a [MASK]", "word": "good"}, {"text": "a good bad [MASK] film", "word": FILM})
    model = variant({"padding_side": side})

    data = prepared("fill-mask", input_cols="text", label_cols="word", batch_size=2, model=model)
    (batch,) = data.batches()

    before = model_that(lambda ids: torch.nn.functional.one_hot(ids.roll(1, dims=1), 10).float(), "logits")
    assert batch.labels.tolist() == [GOOD, FILM]
    assert data.predict(before, batch).tolist() == [A, BAD]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a film"}, "row 0 has no [MASK] among its tokens, not one"),
        ({"text": "[MASK] [MASK]"}, "row 0 has 2 [MASK] among its tokens, not one"),
        ({"word": "badly"}, "row 0: 'badly' is not one token of this model"),
        ({"word": "excellent"}, "row 0: 'excellent' is not one token of this model"),
        ({"word": None}, "row 0: None is not one token of this model"),
    ],
)
def test_masks_and_words_that_do_not_fit_are_told(write, refused, row, message):
    write({"text": "a [MASK]", "word": "film"} | row)

    assert refused("fill-mask", input_cols="text", label_cols="word") == message


QUESTION = {"question": "a", "context": "good bad film badly", "answers": {"text": ["film"], "answer_start": [9]}}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [None, 2])
def test_an_answer_may_stand_in_any_window(write, prepared, variant, side, size):
    write(QUESTION, QUESTION | {"context": "good", "answers": ["good"]})

    data = prepared("question-answering", stride=1, batch_size=size, model=variant({"padding_side": side}))
    found = list(data.batches())

    likes = model_that(lambda ids: ((ids == BAD).float(), (ids == LY).float()), "start_logits", "end_logits")
    said = np.concatenate([data.predict(likes, batch) for batch in found])
    assert said.tolist() == ["badly", "good"]
    assert [row.tolist() for batch in found for row in batch.labels] == [["film"], ["good"]]


def test_where_some_question_has_no_answer_none_may_be_predicted(write, prepared):
    write(QUESTION, QUESTION | {"answers": {"text": [], "answer_start": []}}, QUESTION | {"context": "good"})
    likes = model_that(lambda ids: 2 * ((ids == FILM) + 0.75 * (ids == CLS)).float().repeat(2, 1, 1), "s", "e")

    data = prepared("question-answering", max_answer_length=1)
    said = [data.predict(likes, batch)[0] for batch in data.batches()]

    assert said == ["film", "film", ""]


@given(
    st.integers(1, 7).flatmap(lambda n: arrays(np.float32, (2, n), elements=st.integers(-3, 3))),
    st.integers(1, 8),
    st.data(),
)
def test_the_best_span_is_the_best_of_all(logits, most, data):
    starts, ends = logits
    tokens = len(starts)
    first = data.draw(st.integers(0, tokens))
    last = data.draw(st.integers(first, tokens))
    begins = np.array([3 * place if first <= place < last else OUTSIDE for place in range(tokens)])

    found = best_span(starts, ends, begins, begins + 2, most)

    spans = [(a, b) for a in range(first, last) for b in range(a, min(a + most, last))]
    assert (found is None) == (not spans)
    if found:
        assert found.score == max(starts[a] + ends[b] for a, b in spans)
        assert (found.score, found.begin, found.end) in {(starts[a] + ends[b], 3 * a, 3 * b + 2) for a, b in spans}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answers": 3}, "row 0 has 3 for answers, not texts"),
        ({"context": None}, "row 0 has nothing in column 'context'"),
    ],
)
def test_questions_that_have_no_context_or_answers_are_told(write, refused, row, message):
    write(QUESTION | row)

    assert refused("question-answering") == message


@pytest.mark.parametrize(("question", "stride", "room"), [("a", 4, 4), ("a a a a", 1, 1), ("film " * 9, 1, 0)])
def test_a_question_that_leaves_no_room_for_a_window_to_go_on_is_told(write, refused, question, stride, room):
    write(QUESTION, QUESTION | {"question": question})

    assert refused("question-answering", stride=stride) == (
        f"row {0 if stride == 4 else 1}: the question leaves {room} of 8 tokens for its context, of which two windows "
        f"share {stride}"
    )


def test_a_question_without_its_columns_is_told(write, refused):
    write({"q": "a"})

    assert refused("question-answering") == "the data have no column 'question'; they have q"


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 27 / 5), ("cls", 2), ("last", 3)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_what_a_vector_is_does_not_depend_on_padding(write, prepared, variant, side, pooling, expected):
    write({"text": "good a bad film badly"}, {"text": "film film a film a a"[:14]})

    data = prepared(
        "feature-extraction",
        pooling=pooling,
        batch_size=2,
        model=variant({"padding_side": side, "model_max_length": 5}),
    )
    (batch,) = data.batches()

    itself = model_that(lambda ids: ids[..., None].float(), "last_hidden_state")
    assert data.predict(itself, batch).shape == (2, 1)
    assert data.predict(itself, batch)[1, 0] == pytest.approx(
        expected if pooling != "mean" else (2 + 7 + 7 + 8 + 3) / 5
    )


@pytest.mark.parametrize("size", [None, 2])
def test_two_texts_are_compared_alone_and_in_company(write, prepared, size):
    write({"one": "good", "two": "a bad film"}, {"one": "a bad", "two": "a bad"}, {"one": "film", "two": ""})

    data = prepared("sentence-similarity", input_cols=["one", "two"], batch_size=size)

    hot = model_that(lambda ids: torch.nn.functional.one_hot(ids, 10).float(), "last_hidden_state")
    said = np.concatenate([data.predict(hot, batch) for batch in data.batches()])
    assert said == pytest.approx([2 / (3 * 5) ** 0.5, 1, 2 / (3 * 2) ** 0.5])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "row 0 has 0.5 for a label, which is not a list of numbers"),
        ({"input_cols": ["text", "text2"]}, "the data have no column 'text2'; they have text, score"),
        ({"label_cols": "scores"}, "the data have no column 'scores'; they have text, score"),
    ],
)
def test_vectors_that_are_none_are_told(write, refused, params, message):
    write({"text": "good", "score": 0.5})

    assert refused("feature-extraction", **{"label_cols": "score", **params}) == message


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"label_cols": None}, "which column is the text to write?"),
        ({"input_cols": None}, "which column is the text to read?"),
        ({"label_cols": "t.fr"}, "row 0 has {'de': 'film'}, which has no 'fr': t.fr is not there"),
        ({"input_cols": "s.en"}, "row 0 has 'a', which has no 'en': s.en is not there"),
        ({"label_cols": "target"}, "the data have no column 'target'; they have s, t"),
    ],
)
def test_targets_that_are_not_there_are_told(write, refused, variant, params, message):
    write({"s": "a", "t": {"de": "film"}})
    params = {"input_cols": "s", "label_cols": "t.de", **params}

    assert refused("translation", model=variant(decoder_start_token_id=0), **params) == message


def test_a_decoder_whose_first_token_is_not_known_is_told(write, refused):
    write({"s": "a", "t": "film"})

    message = refused("summarization", input_cols="s", label_cols="t")

    assert message.startswith("the model's config.json has no decoder_start_token_id")


def test_targets_are_fed_one_token_late_and_cut_by_themselves(write, prepared, variant):
    write({"s": "a good film", "t": "good bad film a"}, {"s": "a", "t": "film"})
    model = variant({"padding_side": "left"}, decoder_start_token_id=1)

    options = {"input_cols": "s", "label_cols": "t", "max_length": 4, "target_max_len": 5}
    (batch,) = prepared("translation", model=model, batch_size=2, **options).batches()

    assert batch.feeds["input_ids"].tolist() == [[CLS, A, GOOD, SEP], [0, CLS, A, SEP]]
    assert batch.feeds["decoder_input_ids"].tolist() == [[1, CLS, GOOD, BAD, FILM], [1, CLS, FILM, 0, 0]]
    assert batch.labels.tolist() == [[CLS, GOOD, BAD, FILM, SEP], [CLS, FILM, SEP, -100, -100]]


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 0}, 513),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512, "position_biased_input": False}, None),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "t5"}, None),
    ],
)
def test_positions_that_a_table_loses_to_padding_are_not_counted(config, most):
    assert positions(config) == most

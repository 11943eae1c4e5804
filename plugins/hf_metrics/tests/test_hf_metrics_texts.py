"""Metrics of texts and of labelled tokens against jiwer, torchmetrics and seqeval."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from hfopt import PreconditionFailed
from hfopt.testing import scored
from hfopt_hf_metrics.backend import HuggingfaceMetrics
from hfopt_hf_metrics.config import HuggingfaceMetricsConfig

TEXT = st.lists(st.sampled_from(["a", "the", "cat", "Cat,", "mat", "é"]), max_size=6).map(" ".join)
ANSWER = TEXT.map(lambda text: f"{text} dog".strip())
"""Not empty: torchmetrics takes such as version 2 of SQuAD does, whose first version scores them 0."""
LABELS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "S-ORG"])


def statistic(name, key=None):
    return HuggingfaceMetrics().statistic(name, HuggingfaceMetricsConfig(result_key=key))


def column(rows):
    """Rows as a backend gets them: stacked where their shapes are equal."""
    arrays = [np.asarray(row, dtype=str if len(np.shape(row)) and not len(row) else None) for row in rows]
    if len({each.shape for each in arrays}) == 1:
        return np.stack(arrays)
    found = np.empty(len(arrays), dtype=object)
    found[:] = arrays
    return found


def kept(predictions, references):
    return column(predictions), column(references)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1))
def test_error_rates_are_those_of_jiwer_over_all_rows(rows):
    said, right = (list(each) for each in zip(*[("", "x"), *rows], strict=True))

    assert scored(statistic("wer"), *kept(said, right)).value == pytest.approx(jiwer.wer(right, said))
    assert scored(statistic("cer"), *kept(said, right)).value == pytest.approx(jiwer.cer(right, said))


@given(st.lists(st.tuples(TEXT | ANSWER, st.lists(ANSWER, min_size=1, max_size=3)), min_size=1))
def test_answers_score_as_torchmetrics_scores_them(rows):
    said, answers = (list(each) for each in zip(*rows, strict=True))
    expected = squad(
        [{"id": str(row), "prediction_text": text} for row, text in enumerate(said)],
        [{"id": str(row), "answers": {"text": some, "answer_start": [0]}} for row, some in enumerate(answers)],
    )

    for key in ("exact_match", "f1"):
        assert scored(statistic("squad", key), *kept(said, answers)).value == pytest.approx(expected[key].item())
    assert scored(statistic("exact_match"), *kept(said, answers)).value == pytest.approx(
        np.mean([text in some for text, some in zip(said, answers, strict=True)])
    )


@pytest.mark.parametrize(
    ("said", "answers", "exact", "f1"),
    [
        ("", [], 100, 100),
        ("the", [], 100, 100),
        ("a cat", [], 0, 0),
        ("", ["cat"], 0, 0),
        ("", ["the", "cat"], 0, 0),
        ("Cat,", ["the cat"], 100, 100),
        ("cat mat", ["", "the cat"], 0, 100 * 2 / 3),
    ],
)
def test_to_say_nothing_is_right_where_there_is_no_answer(said, answers, exact, f1):
    rows = kept([said], [answers])

    assert scored(statistic("squad_v2", "exact"), *rows).value == exact
    assert scored(statistic("squad_v2"), *rows).value == pytest.approx(f1)


@given(st.lists(st.lists(st.tuples(LABELS, LABELS), max_size=8), min_size=1))
def test_entities_are_those_of_seqeval(rows):
    rows = [[("B-PER", "B-PER")], *rows]
    said, right = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    predictions, references = kept(said, right)

    for name in ("f1", "precision", "recall", "accuracy"):
        expected = getattr(seqeval.metrics, f"{name}_score")(right, said)
        assert scored(statistic("seqeval", f"overall_{name}"), predictions, references).value == pytest.approx(expected)
    of_person = seqeval.metrics.classification_report(right, said, output_dict=True, zero_division=0)["PER"]
    for key, name in (("f1", "f1-score"), ("recall", "recall")):
        assert scored(statistic("seqeval", f"PER.{key}"), predictions, references).value == pytest.approx(
            of_person[name]
        )


def test_two_models_are_compared_row_by_row():
    right = np.array(["a b c d"] * 50)
    before, after = np.array(["a b c x", "a b c d"] * 25), np.array(["a b x x", "a b c d"] * 25)

    found = scored(statistic("wer"), after, right, before)

    assert (found.value, found.difference.value, found.higher_is_better) == (0.25, 0.125, False)
    assert found.low < 0.25 < found.high
    assert found.difference.low < 0.125 < found.difference.high


@pytest.mark.parametrize(
    ("name", "key", "predictions", "references", "message", "hint"),
    [
        ("wer", None, ["a"], ["a", "b"], "there are 1 predictions and 2 references", None),
        ("seqeval", None, [["O"]], [["O"], ["O"]], "there are 1 predictions and 2 references", None),
        ("wer", None, ["a"], [["a", "b"]], "needs one text for each row; row 0 has 2 references", None),
        ("wer", None, [1, 2], ["a", "b"], "needs a text for each row; the prediction of row 0 is none", None),
        ("wer", None, ["a"], [""], "the references have no words, of which errors would be a part", None),
        ("squad", None, ["a"], [[]], "row 0 has no answer", "squad_v2 has questions without one"),
        (
            "seqeval",
            None,
            [["O", "O"], ["O", "O"]],
            [["O", "O"], ["O"]],
            "row 1: 2 labels are predicted, and 1 tokens have one",
            None,
        ),
        (
            "seqeval",
            None,
            [[0.5, 2.0]],
            [["O", "O"]],
            "needs the name of a label for each token; row 0 has float64 [2]",
            "seqeval is of data for token-classification",
        ),
        ("seqeval", "overall_accuracy", [[]], [[]], "no token has a label", None),
        (
            "seqeval",
            "PRE.f1",
            [["B-PER"]],
            [["B-LOC"]],
            "there is no entity of type 'PRE'; there is LOC, PER",
            "did you mean 'PER'?",
        ),
        (
            "accuracy",
            None,
            ["a"],
            ["a"],
            "labels are texts, and this metric is of classes",
            "of texts there are wer, cer, exact_match, squad; of labels per token seqeval",
        ),
    ],
)
def test_rows_that_do_not_suit_a_metric_are_told(name, key, predictions, references, message, hint):
    with pytest.raises(PreconditionFailed) as failed:
        scored(statistic(name, key), *kept(predictions, references))

    assert failed.value.message == message
    assert failed.value.hint == hint

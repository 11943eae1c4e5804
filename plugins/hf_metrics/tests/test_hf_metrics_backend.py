"""huggingface_metrics against scikit-learn: the figures and their intervals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from hfopt import PreconditionFailed
from hfopt.api import statistics
from hfopt_hf_metrics.backend import HuggingfaceMetrics
from hfopt_hf_metrics.config import HuggingfaceMetricsConfig

SKLEARN = {
    "f1": sklearn_metrics.f1_score,
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
}


def statistic(name, **compute_params):
    config = HuggingfaceMetricsConfig.model_validate({"compute_params": compute_params or None}, strict=False)
    return HuggingfaceMetrics().statistic(name, config)


def value(statistic, predictions, references):
    rows = statistic.rows(np.array(predictions), np.array(references))
    return float(statistic.value(rows.sum(axis=0), len(rows)))


def pairs(classes):
    """Lists of (prediction, reference)."""
    label = st.sampled_from(classes)
    return st.lists(st.tuples(label, label), min_size=1, max_size=40)


@given(pairs([0, 1, 2, 7]))
def test_accuracy_is_that_of_scikit_learn(rows):
    predictions, references = zip(*rows, strict=True)

    found = value(statistic("accuracy"), predictions, references)

    assert found == pytest.approx(sklearn_metrics.accuracy_score(references, predictions))


@pytest.mark.parametrize("name", SKLEARN)
@given(pairs([0, 1]), st.sampled_from([0, 1]))
def test_a_binary_score_is_that_of_scikit_learn(name, rows, pos_label):
    predictions, references = zip(*rows, strict=True)
    if len({*predictions, *references}) == 1:
        pos_label = predictions[0]

    found = value(statistic(name, pos_label=pos_label), predictions, references)

    expected = SKLEARN[name](references, predictions, pos_label=pos_label, zero_division=0)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", SKLEARN)
@given(pairs([0, 1, 2, 5]), st.none() | st.lists(st.sampled_from([0, 1, 2, 5, 9]), min_size=1, unique=True))
def test_an_averaged_score_is_that_of_scikit_learn_also_where_a_class_is_only_predicted(name, average, rows, labels):
    predictions, references = zip(*rows, strict=True)
    if labels is not None and not set(labels) & set(references):
        labels = [*labels, references[0]]  # scikit-learn wants one of them to occur

    found = value(statistic(name, average=average, labels=labels), predictions, references)

    expected = SKLEARN[name](references, predictions, average=average, labels=labels, zero_division=0)
    assert found == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(pairs([0, 1, 2, 5, 6]))
def test_matthews_correlation_is_that_of_scikit_learn_also_where_a_class_is_only_predicted(rows):
    predictions, references = zip(*rows, strict=True)

    found = value(statistic("matthews_correlation"), predictions, references)

    assert found == pytest.approx(sklearn_metrics.matthews_corrcoef(references, predictions), abs=1e-12)


@pytest.mark.parametrize(
    "chosen",
    [
        statistic("f1"),
        statistic("f1", average="macro"),
        statistic("precision", average="weighted"),
        statistic("recall", average="micro"),
        statistic("matthews_correlation"),
    ],
    ids=lambda each: f"{type(each).__name__}-{getattr(each, 'average', '')}",
)
def test_many_sums_at_once_give_what_each_gives_alone(chosen):
    random = np.random.default_rng(0)
    sums = [chosen.rows(random.integers(0, 2, 30), np.array([0, 1] * 15)).sum(axis=0).astype(float) for _ in range(5)]

    together = chosen.value(np.stack(sums), 30)

    assert together.tolist() == [float(chosen.value(each, 30)) for each in sums]


def test_two_models_are_compared_even_if_one_predicts_a_class_that_the_other_does_not():
    chosen = statistic("f1", average="macro")
    references = np.array([0, 1, 2, 2] * 20)
    first = chosen.rows(np.array([0, 0, 0, 0] * 20), references)
    second = chosen.rows(np.array([5, 1, 2, 2] * 20), references)

    difference = statistics.paired_bootstrap(first, second, chosen.value)

    assert difference.value == pytest.approx(0.5 - 0.4 / 3)
    assert difference.low < difference.value < difference.high


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["f1", "precision", "recall", "matthews_correlation"]))
def test_an_interval_holds_the_value_and_narrows_with_more_rows(seed, name):
    random = np.random.default_rng(seed)
    chosen = statistic(name)

    def interval(n):
        references = random.integers(0, 2, n)
        predictions = np.where(random.random(n) < 0.8, references, 1 - references)
        return statistics.bootstrap(chosen.rows(predictions, references), chosen.value)

    few, many = interval(100), interval(2_500)

    for each in (few, many):
        assert each.low <= each.value <= each.high
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize("name, compute_params", [("f1", {"average": "macro"}), ("matthews_correlation", {})])
def test_an_interval_is_that_of_a_bootstrap_with_scikit_learn_also_where_a_class_is_rare(name, compute_params):
    random = np.random.default_rng(4)
    references = random.choice([0, 1, 2], 300, p=[0.6, 0.39, 0.01])
    predictions = np.where(random.random(300) < 0.8, references, random.integers(0, 2, 300))
    chosen = statistic(name, **compute_params)

    found = statistics.bootstrap(chosen.rows(predictions, references), chosen.value)

    score = {"f1": sklearn_metrics.f1_score, "matthews_correlation": sklearn_metrics.matthews_corrcoef}[name]
    draws = [random.integers(0, 300, 300) for _ in range(1_000)]
    expected = [score(references[drawn], predictions[drawn], **compute_params) for drawn in draws]
    assert [found.low, found.high] == pytest.approx(np.quantile(expected, [0.025, 0.975]).tolist(), abs=0.015)


def test_a_model_compared_with_itself_does_not_differ():
    references = np.array([0, 1, 1, 2, 0, 1] * 20)
    predictions = np.array([0, 1, 2, 2, 1, 1] * 20)
    chosen = statistic("f1", average="macro")
    rows = chosen.rows(predictions, references)

    difference = statistics.paired_bootstrap(rows, rows, chosen.value)

    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_more_than_two_classes_need_an_average():
    with pytest.raises(PreconditionFailed) as failed:
        statistic("f1").rows(np.array([0, 1, 2]), np.array([0, 1, 1]))

    assert str(failed.value) == (
        "there are 3 classes, and average is binary\n"
        '  hint: set compute_params to {"average": "macro"}, "micro" or "weighted"'
    )


def test_two_classes_without_the_positive_one_are_named():
    with pytest.raises(PreconditionFailed) as failed:
        statistic("precision").rows(np.array([0, 2]), np.array([2, 2]))

    assert str(failed.value) == (
        "no row has the positive class 1: the classes are 0 and 2\n  hint: set pos_label in compute_params"
    )


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews_correlation"])
def test_predictions_of_another_shape_than_the_labels_are_refused(name):
    sentence = "needs one class per row, or as many labels as outputs; predictions are [2, 3], labels [2]"

    with pytest.raises(PreconditionFailed, match=re.escape(sentence)):
        statistic(name).rows(np.zeros((2, 3), dtype=int), np.zeros(2, dtype=int))

"""Metrics of numbers, scores and several labels against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from hfopt import PreconditionFailed
from hfopt.testing import scored
from hfopt_hf_metrics.backend import HuggingfaceMetrics
from hfopt_hf_metrics.config import HuggingfaceMetricsConfig

SEEDS = st.integers(0, 2**32 - 1)


def statistic(name, **compute_params):
    return HuggingfaceMetrics().statistic(name, HuggingfaceMetricsConfig(compute_params=compute_params or None))


def value(statistic, predictions, references):
    rows = statistic.rows(predictions, references)
    return float(statistic.value(rows.sum(axis=0), len(rows)))


def numbers(seed, n=60, ties=False):
    random = np.random.default_rng(seed)
    references = random.standard_normal(n)
    predictions = references + random.standard_normal(n)
    return (np.round(each) if ties else each for each in (predictions, references))


@given(SEEDS)
def test_errors_and_correlations_of_one_output_are_those_of_scipy(seed):
    predictions, references = numbers(seed)
    column = predictions[:, None].astype(np.float32)

    assert value(statistic("mse"), column, references) == pytest.approx(np.mean((column[:, 0] - references) ** 2))
    assert value(statistic("mse", squared=False), column, references) == pytest.approx(
        np.mean((column[:, 0] - references) ** 2) ** 0.5
    )
    assert value(statistic("pearsonr"), column, references) == pytest.approx(
        stats.pearsonr(column[:, 0], references)[0]
    )


@given(SEEDS)
def test_a_rank_correlation_is_that_of_scipy_also_with_ties(seed):
    predictions, references = numbers(seed, ties=True)

    found = statistic("spearmanr").value(predictions, references)

    assert found == pytest.approx(stats.spearmanr(predictions, references)[0])


@given(SEEDS)
def test_the_area_of_two_classes_is_that_of_scikit_learn_also_with_ties(seed):
    random = np.random.default_rng(seed)
    references = np.concatenate([[0, 1], random.integers(0, 2, 40)])
    logits = np.round(random.standard_normal((42, 2)), 1)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))

    found = statistic("roc_auc").value(logits, references)

    assert found == pytest.approx(sklearn_metrics.roc_auc_score(references, odds[:, 1] / odds.sum(axis=1)))


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("multi_class", ["ovr", "ovo"])
@given(SEEDS)
def test_the_area_of_several_classes_is_that_of_scikit_learn(average, multi_class, seed):
    random = np.random.default_rng(seed)
    references = np.concatenate([[0, 1, 2], random.integers(0, 3, 40)])
    logits = random.standard_normal((43, 3))
    odds = np.exp(logits)

    found = statistic("roc_auc", average=average, multi_class=multi_class).value(logits, references)

    expected = sklearn_metrics.roc_auc_score(
        references, odds / odds.sum(axis=1, keepdims=True), average=average, multi_class=multi_class
    )
    assert found == pytest.approx(expected)


@given(SEEDS)
def test_scores_of_several_labels_are_those_of_scikit_learn(seed):
    random = np.random.default_rng(seed)
    logits, references = random.standard_normal((30, 4)), random.integers(0, 2, (30, 4))

    assert value(statistic("accuracy"), logits, references) == pytest.approx(
        sklearn_metrics.accuracy_score(references, logits > 0)
    )
    for average in ("micro", "macro", "weighted", "samples"):
        assert value(statistic("f1", average=average), logits, references) == pytest.approx(
            sklearn_metrics.f1_score(references, logits > 0, average=average, zero_division=0)
        )


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
@given(SEEDS)
def test_areas_of_several_labels_are_those_of_scikit_learn(average, seed):
    random = np.random.default_rng(seed)
    logits, references = random.standard_normal((30, 4)), random.integers(0, 2, (30, 4))
    references[:, :2] = [0, 1]  # rows of samples have both
    references[:2, :2] = [1, 0]

    found = statistic("roc_auc", average=average).value(logits, references)

    assert found == pytest.approx(sklearn_metrics.roc_auc_score(references, logits, average=average))


@given(SEEDS)
def test_the_area_of_all_scores_of_classes_is_that_of_scikit_learn(seed):
    random = np.random.default_rng(seed)
    logits, references = random.standard_normal((30, 3)), np.array([0, 1, 2] * 10)
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    found = statistic("roc_auc", average="micro").value(logits, references)

    assert found == pytest.approx(sklearn_metrics.roc_auc_score(references, odds, average="micro", multi_class="ovr"))


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(SEEDS)
def test_the_correlation_of_several_labels_is_the_mean_of_those_of_scikit_learn(seed):
    random = np.random.default_rng(seed)
    logits, references = random.standard_normal((12, 3)), random.integers(0, 2, (12, 3))
    references[:, 2] = seed % 2  # a label that is the same for all

    found = value(statistic("matthews_correlation", average="macro"), logits, references)

    each = [sklearn_metrics.matthews_corrcoef(*pair) for pair in zip(references.T, logits.T > 0, strict=True)]
    assert found == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("roc_auc", {"average": "binary"}, "average of roc_auc is macro, micro, weighted or samples, got binary"),
        (
            "roc_auc",
            {"average": "micro", "multi_class": "ovo"},
            "average of roc_auc is macro or weighted for each two classes, got micro",
        ),
        ("matthews_correlation", {"average": "micro"}, "average of matthews_correlation is macro, got micro"),
    ],
)
def test_an_average_that_a_metric_does_not_have_is_said(name, params, sentence):
    with pytest.raises(ValueError, match=f"^compute_params: {sentence}$"):
        statistic(name, **params)


@pytest.mark.parametrize(("name", "average"), [("roc_auc", "samples"), ("matthews_correlation", "macro")])
def test_an_average_of_labels_is_not_of_classes(name, average):
    with pytest.raises(PreconditionFailed, match=f"^average {average} is of several labels per row, and there is one"):
        scored(statistic(name, average=average), np.zeros((3, 3)), np.array([0, 1, 2]))


def test_a_metric_of_all_rows_has_an_interval_and_a_paired_difference_from_resamples():
    random = np.random.default_rng(1)
    references = random.integers(0, 2, 400)
    before = random.standard_normal((400, 2)) + 2 * np.eye(2)[references]
    after = before + 0.01 * random.standard_normal((400, 2))

    metric = scored(statistic("roc_auc"), after, references, before)

    odds = np.exp(after)
    scores = odds[:, 1] / odds.sum(axis=1)
    drawn = [random.integers(0, 400, 400) for _ in range(1_000)]
    expected = [sklearn_metrics.roc_auc_score(references[rows], scores[rows]) for rows in drawn]
    assert metric.value == pytest.approx(sklearn_metrics.roc_auc_score(references, scores))
    assert [metric.low, metric.high] == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=0.005)
    assert metric.difference.low < 0 < metric.difference.high
    assert metric.difference.high - metric.difference.low < 0.2 * (metric.high - metric.low)


def test_rows_of_one_class_define_no_area():
    with pytest.raises(
        PreconditionFailed, match=r"^3 rows with such labels and predictions do not define this metric$"
    ):
        scored(statistic("roc_auc"), np.zeros((3, 2)), np.ones(3, dtype=int))


@pytest.mark.parametrize(
    ("name", "predictions", "references", "sentence"),
    [
        ("accuracy", np.zeros((2, 1)), np.array([0.5, 1.5]), "labels are numbers, and this metric is of classes"),
        (
            "f1",
            np.zeros((2, 3)),
            np.zeros((2, 3), dtype=int),
            "there are several labels per row, and average is binary",
        ),
        ("pearsonr", np.zeros((2, 3)), np.zeros((2, 3)), "needs one number per row"),
        ("mse", np.zeros((2, 3)), np.zeros(2), "needs as many numbers per row as labels"),
        ("matthews_correlation", np.zeros((2, 3)), np.zeros((2, 3), dtype=int), "needs one class per row"),
        ("roc_auc", np.zeros(2, dtype=int), np.zeros(2, dtype=int), "needs a score per row and class"),
    ],
)
def test_what_a_metric_is_not_of_is_said(name, predictions, references, sentence):
    with pytest.raises(PreconditionFailed, match=f"^{sentence}"):
        scored(statistic(name), predictions, references)

"""huggingface_metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from hfopt import PreconditionFailed
from hfopt.api.config import UnknownName
from hfopt.statistics import paired_bootstrap
from hfopt_hf_metrics.backend import HuggingfaceMetrics, HuggingfaceMetricsConfig

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)
BINARY = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
SCORES = {"f1": sklearn.f1_score, "precision": sklearn.precision_score, "recall": sklearn.recall_score}


def value(name, pairs, **params):
    config = HuggingfaceMetricsConfig.model_validate({"compute_params": params})
    statistic = HuggingfaceMetrics().statistic(name, config)
    predictions, references = np.array(pairs).T
    rows = statistic.rows(predictions, references)
    return float(statistic.value(rows.sum(axis=0), len(rows)))


@given(LABELS)
def test_accuracy_is_scikit_learns(pairs):
    predictions, references = np.array(pairs).T

    assert value("accuracy", pairs) == pytest.approx(sklearn.accuracy_score(references, predictions))


@pytest.mark.parametrize("name", SCORES)
@given(pairs=BINARY)
def test_a_binary_score_is_scikit_learns(name, pairs):
    predictions, references = np.array(pairs).T

    expected = SCORES[name](references, predictions, labels=[0, 1], average="binary", zero_division=0)
    assert value(name, pairs) == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("name", SCORES)
@given(pairs=LABELS)
def test_an_averaged_score_is_scikit_learns(name, average, pairs):
    predictions, references = np.array(pairs).T

    expected = SCORES[name](references, predictions, average=average, zero_division=0)
    assert value(name, pairs, average=average) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(LABELS)
def test_matthews_correlation_is_scikit_learns(pairs):
    predictions, references = np.array(pairs).T

    assert value("matthews_correlation", pairs) == pytest.approx(sklearn.matthews_corrcoef(references, predictions))


def test_resamples_are_computed_at_once_and_each_as_on_its_own():
    statistic = HuggingfaceMetrics().statistic("f1", HuggingfaceMetricsConfig())
    sums = np.random.default_rng(0).integers(1, 50, size=(100, 3)).astype(float)

    together = statistic.value(sums, 60)

    assert together == pytest.approx([float(statistic.value(row, 60)) for row in sums])


def test_two_models_are_compared_even_if_one_predicts_a_class_that_the_other_does_not():
    config = HuggingfaceMetricsConfig.model_validate({"compute_params": {"average": "macro"}})
    statistic = HuggingfaceMetrics().statistic("f1", config)
    references = np.array([0, 1, 2, 2] * 20)
    first = statistic.rows(np.array([0, 0, 0, 0] * 20), references)
    second = statistic.rows(np.array([5, 1, 2, 2] * 20), references)

    difference = paired_bootstrap(first, second, statistic.value)

    assert difference.value == pytest.approx(0.5 - 0.4 / 3)
    assert difference.low < difference.value < difference.high


def test_a_metric_of_the_hub_is_refused_with_the_names_that_there_are():
    with pytest.raises(UnknownName, match=r"no metric .*named 'bleu'; there is f1, precision, recall, accuracy"):
        HuggingfaceMetrics().statistic("bleu", HuggingfaceMetricsConfig())


def test_binary_f1_over_three_classes_says_what_to_set():
    statistic = HuggingfaceMetrics().statistic("f1", HuggingfaceMetricsConfig())

    with pytest.raises(PreconditionFailed) as failure:
        statistic.rows(np.array([0, 1, 2]), np.array([0, 1, 2]))

    assert failure.value.message == "there are 3 classes, and average is binary"
    assert failure.value.hint == 'set compute_params to {"average": "macro"}, "micro" or "weighted"'


def test_predictions_that_are_not_one_class_per_row_are_refused():
    statistic = HuggingfaceMetrics().statistic("accuracy", HuggingfaceMetricsConfig())

    with pytest.raises(PreconditionFailed, match=r"predictions are \[2, 3\], labels \[2\]"):
        statistic.rows(np.zeros((2, 3)), np.zeros(2))

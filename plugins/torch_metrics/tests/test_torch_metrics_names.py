"""torch_metrics against scikit-learn, whose figures torchmetrics' own tests compare with too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from hfopt import PreconditionFailed
from hfopt.api.config import UnknownName
from hfopt_torch_metrics.backend import TorchMetrics
from hfopt_torch_metrics.config import TorchMetricsConfig

SKLEARN = {
    "f1_score": sklearn_metrics.f1_score,
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
}


def value(name, rows, **options):
    statistic = TorchMetrics().statistic(name, TorchMetricsConfig(**options))
    predictions, references = map(np.array, zip(*rows, strict=True))
    sums = statistic.rows(predictions, references).sum(axis=0)
    return float(statistic.value(sums, len(rows))), predictions, references


def pairs(classes):
    """Lists of (prediction, reference)."""
    label = st.sampled_from(classes)
    return st.lists(st.tuples(label, label), min_size=1, max_size=40)


@given(pairs([0, 1]))
def test_without_options_a_score_is_that_of_class_1(rows):
    for name, score in SKLEARN.items():
        found, predictions, references = value(name, rows)
        assert found == pytest.approx(score(references, predictions, pos_label=1, labels=[0, 1], zero_division=0))


@given(pairs([0, 1, 2, 5]), st.sampled_from(["micro", "macro", "weighted"]))
def test_a_score_of_several_classes_is_averaged_micro_or_as_asked(rows, average):
    for name, score in SKLEARN.items():
        found, predictions, references = value(name, rows, task="multiclass", num_classes=6, average=average)
        assert found == pytest.approx(score(references, predictions, average=average, zero_division=0))
        if average == "micro":
            assert found == value(name, rows, task="multiclass", num_classes=6)[0]


@given(pairs([0, 1, 2, 5]))
def test_accuracy_is_the_share_of_right_rows_or_the_mean_of_the_classes_recalls(rows):
    options = {"task": "multiclass", "num_classes": 6}
    found, predictions, references = value("accuracy_score", rows, **options)
    macro = value("accuracy_score", rows, **options, average="macro")[0]

    assert found == pytest.approx(sklearn_metrics.accuracy_score(references, predictions))
    assert macro == pytest.approx(
        sklearn_metrics.recall_score(references, predictions, average="macro", zero_division=0)
    )


def test_accuracy_has_the_interval_of_a_proportion():
    assert TorchMetrics().statistic("accuracy_score", TorchMetricsConfig()).proportion
    assert not TorchMetrics().statistic("f1_score", TorchMetricsConfig()).proportion


@pytest.mark.parametrize("name", ["accuracy_score", "f1_score", "precision", "recall"])
def test_a_class_that_the_metric_is_not_told_of_is_an_error(name):
    with pytest.raises(PreconditionFailed, match=r"^there is a class 2, and the metric is told of 2") as failure:
        value(name, [(0, 0), (1, 2)])

    assert failure.value.hint == 'set metric_config to {"task": "multiclass", "num_classes": ...}'


def test_an_unknown_metric_is_answered_with_those_there_are():
    with pytest.raises(UnknownName, match=r"there is accuracy_score, auroc, f1_score, perplexity, precision, recall$"):
        TorchMetrics().statistic("accuracy", TorchMetricsConfig())


@given(pairs([0, 1, 2]), st.integers(0, 2**32 - 1))
def test_scores_of_every_class_are_as_good_as_the_largest(rows, seed):
    references = np.array([reference for _, reference in rows])
    scores = np.random.default_rng(seed).standard_normal((len(rows), 3)).astype(np.float32)
    options = TorchMetricsConfig(task="multiclass", num_classes=3)
    for name in SKLEARN:
        statistic = TorchMetrics().statistic(name, options)
        assert np.array_equal(statistic.rows(scores, references), statistic.rows(scores.argmax(axis=1), references))


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_of_several_labels_accuracy_is_of_labels_and_a_score_is_that_of_scikit_learn(n, seed):
    random = np.random.default_rng(seed)
    logits, references = random.standard_normal((n, 4)), random.integers(0, 2, (n, 4))
    options = {"task": "multilabel", "num_labels": 4}

    def found(name, **more):
        statistic = TorchMetrics().statistic(name, TorchMetricsConfig(**options, **more))
        return float(statistic.value(statistic.rows(logits, references).sum(axis=0), n))

    of_labels = [sklearn_metrics.accuracy_score(*each) for each in zip(references.T, logits.T > 0, strict=True)]
    weights = references.sum(axis=0)
    assert found("accuracy_score") == found("accuracy_score", average="macro") == pytest.approx(np.mean(of_labels))
    weighted = np.average(of_labels, weights=weights) if weights.any() else 0
    assert found("accuracy_score", average="weighted") == pytest.approx(weighted)
    for name, score in SKLEARN.items():
        for average in ("micro", "macro", "weighted"):
            expected = score(references, logits > 0, average=average, zero_division=0)
            assert found(name, average=average) == pytest.approx(expected)


def test_auroc_is_that_of_scikit_learn_of_probabilities():
    random = np.random.default_rng(0)
    references = random.integers(0, 2, 200)
    logits = random.standard_normal((200, 2)) + references[:, None] * [[0, 1.0]]
    odds = np.exp(logits)

    found = TorchMetrics().statistic("auroc", TorchMetricsConfig()).value(logits, references)

    assert found == pytest.approx(sklearn_metrics.roc_auc_score(references, odds[:, 1] / odds.sum(axis=1)))

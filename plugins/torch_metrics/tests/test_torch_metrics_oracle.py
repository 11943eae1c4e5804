"""torch_metrics against torchmetrics itself, with every option that it has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.classification as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from hfopt import PreconditionFailed
from hfopt.testing import scored, validate
from hfopt_torch_metrics.backend import TorchMetrics
from hfopt_torch_metrics.config import TorchMetricsConfig

ORACLES = {
    "accuracy_score": oracle.Accuracy,
    "f1_score": oracle.F1Score,
    "precision": oracle.Precision,
    "recall": oracle.Recall,
}
SEEDS = st.integers(0, 2**32 - 1)


def found(name, logits, labels, **options):
    statistic = TorchMetrics().statistic(name, TorchMetricsConfig(**options))
    rows = statistic.rows(logits, labels)
    return float(statistic.value(rows.sum(axis=0), len(rows)))


def drawn(seed, classes, n=40):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, classes)).astype(np.float32), random.integers(0, classes, n)


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=25)
@given(SEEDS, st.sampled_from([0.1, 0.3, 0.5, 0.8]), st.sampled_from([None, -100, 0]))
def test_two_classes_are_told_apart_by_the_threshold(name, seed, threshold, ignore_index):
    logits, labels = drawn(seed, 2)
    options = {"task": "binary", "threshold": threshold, "ignore_index": ignore_index}
    probabilities = torch.from_numpy(logits).softmax(1)[:, 1]

    expected = ORACLES[name](**options)(probabilities, torch.from_numpy(labels))

    assert found(name, logits, labels, **options) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=25)
@given(SEEDS, st.integers(1, 3), st.sampled_from([None, -100, 1]))
def test_classes_are_counted_as_torchmetrics_counts_them(name, average, seed, top_k, ignore_index):
    logits, labels = drawn(seed, 4)
    options = {"task": "multiclass", "num_classes": 4, "average": average, "top_k": top_k, "ignore_index": ignore_index}

    expected = ORACLES[name](**options)(torch.from_numpy(logits), torch.from_numpy(labels))

    assert found(name, logits, labels, **options) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@pytest.mark.parametrize("name", sorted(ORACLES.keys() - {"accuracy_score"}))
@settings(max_examples=25)
@given(SEEDS, st.sampled_from([0.2, 0.5, 0.7]))
def test_several_labels_are_chosen_by_the_threshold(name, average, seed, threshold):
    random = np.random.default_rng(seed)
    logits, labels = random.standard_normal((30, 3)).astype(np.float32), random.integers(0, 2, (30, 3))
    options = {"task": "multilabel", "num_labels": 3, "average": average, "threshold": threshold}

    expected = ORACLES[name](**options)(torch.from_numpy(logits).sigmoid(), torch.from_numpy(labels))

    assert found(name, logits, labels, **options) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@settings(max_examples=25)
@given(SEEDS, st.sampled_from([0.2, 0.5, 0.7]))
def test_accuracy_of_several_labels_is_of_labels(average, seed, threshold):
    random = np.random.default_rng(seed)
    logits, labels = random.standard_normal((30, 3)).astype(np.float32), random.integers(0, 2, (30, 3))
    labels[:, 2] = seed % 2 * labels[:, 2]  # a label that no row has
    options = {"task": "multilabel", "num_labels": 3, "threshold": threshold, "average": average}

    expected = oracle.Accuracy(**options)(torch.from_numpy(logits).sigmoid(), torch.from_numpy(labels))

    assert found("accuracy_score", logits, labels, **options) == pytest.approx(expected.item(), abs=1e-6)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["macro", "weighted"]), st.sampled_from([None, 1]))
def test_areas_are_those_of_torchmetrics(seed, average, ignore_index):
    logits, labels = drawn(seed, 3, 60)
    labels[:3] = range(3)
    if ignore_index is not None:
        labels[labels == 1] = -1
        ignore_index = -1
        labels[:9] = [0, 1, 2] * 3
    options = {"task": "multiclass", "num_classes": 3, "average": average, "ignore_index": ignore_index}

    expected = oracle.AUROC(**options)(torch.from_numpy(logits), torch.from_numpy(labels))

    value = TorchMetrics().statistic("auroc", TorchMetricsConfig(**options)).value(logits, labels)
    assert value == pytest.approx(expected.item(), abs=1e-5)


def test_rows_that_do_not_count_are_not_counted():
    logits, labels = drawn(0, 2, 50)
    statistic = TorchMetrics().statistic("accuracy_score", TorchMetricsConfig(ignore_index=0))

    assert scored(statistic, logits, labels).n == int((labels == 1).sum())


@pytest.mark.parametrize(
    ("options", "logits", "labels", "message"),
    [
        ({"ignore_index": 1}, np.zeros((2, 2)), np.ones(2, dtype=int), "every row has the class 1, which ignore_index"),
        (
            {"task": "multilabel", "num_labels": 4},
            np.zeros((2, 3)),
            np.zeros((2, 3), dtype=int),
            "rows have 3 labels, and num_labels is 4",
        ),
        (
            {"task": "multiclass", "num_classes": 3, "top_k": 2},
            np.zeros(2, dtype=int),
            np.zeros(2, dtype=int),
            "top_k needs the scores of every class",
        ),
    ],
)
def test_rows_that_the_options_do_not_fit_are_told(options, logits, labels, message):
    with pytest.raises(PreconditionFailed, match=f"^{message}"):
        found("f1_score", logits, labels, **options)


@pytest.mark.parametrize(
    ("written", "place", "message", "hint"),
    [
        ({"num_class": 3}, "num_class", "unknown key", "did you mean 'num_classes'?"),
        ({"task": "multiclass"}, "num_classes", "is required: task is multiclass", None),
        ({"task": "multilabel"}, "num_labels", "is required: task is multilabel", None),
        ({"top_k": 2}, "top_k", "is of multiclass, and task is binary", None),
        (
            {"task": "multiclass", "num_classes": 3, "top_k": 4},
            "top_k",
            "is more than num_classes, 3",
            None,
        ),
        (
            {"task": "multilabel", "num_labels": 3, "ignore_index": 0},
            "ignore_index",
            "is a class, and of several labels per row each counts",
            None,
        ),
        ({"multidim_average": "samplewise"}, "multidim_average", "a figure is one number for all rows", None),
    ],
)
def test_options_that_are_wrong_are_told(written, place, message, hint):
    problems = []

    validate(TorchMetricsConfig, written, (), problems)

    assert [(".".join(map(str, each.path)), each.message, each.hint) for each in problems] == [(place, message, hint)]

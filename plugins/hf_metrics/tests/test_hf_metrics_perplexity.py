"""Perplexity of texts, and what is said where a metric and the labels do not go together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hfopt import PreconditionFailed
from hfopt.testing import scored
from hfopt_hf_metrics.backend import METRICS, HuggingfaceMetrics
from hfopt_hf_metrics.config import HuggingfaceMetricsConfig

SURPRISES = np.array([[3.0, 2.0], [0.0, 0.0], [5.0, 6.0]])
TOKENS = np.array([[7, 4, 9], [5, -100, -100], [1, 2, 3]])


def ragged():
    rows = np.empty(3, dtype=object)
    rows[:] = [np.array([7, 4, 9]), np.array([5]), np.array([1, 2])]
    return rows


def perplexities():
    yield HuggingfaceMetrics().statistic("perplexity", HuggingfaceMetricsConfig())


@pytest.mark.parametrize("labels", [TOKENS, ragged()], ids=["padded", "unpadded"])
def test_every_token_counts_alike_whichever_text_it_is_of(labels):
    for metric in perplexities():
        rows = metric.rows(SURPRISES, labels)

        assert metric.value(rows.sum(axis=0), len(rows)) == pytest.approx(math.exp(8 / 8))
        assert metric.value(2 * rows[None, 0], 2).tolist() == [pytest.approx(math.exp(1.5))]
        assert not metric.higher_is_better


def test_perplexity_of_classes_is_refused():
    for metric in perplexities():
        for labels in (np.array([0, 1, 1]), np.array([[0, 1], [1, 1], [0, 0]])):
            with pytest.raises(PreconditionFailed, match="perplexity is of texts that a model writes"):
                metric.rows(SURPRISES, labels)


def test_texts_of_one_token_each_have_no_perplexity():
    for metric in perplexities():
        with pytest.raises(PreconditionFailed, match="no text has a token that counts"):
            metric.rows(np.zeros((3, 2)), ragged())


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"perplexity"}))
@pytest.mark.parametrize("labels", [TOKENS, ragged()], ids=["padded", "unpadded"])
def test_a_metric_of_classes_says_why_it_has_no_meaning_for_texts(name, labels):
    metric = HuggingfaceMetrics().statistic(name, HuggingfaceMetricsConfig())

    with pytest.raises(PreconditionFailed) as refused:
        scored(metric, SURPRISES, labels)

    assert refused.value.message == (
        "the labels are the tokens of texts, which have no class that could be right or wrong: metrics such as "
        "accuracy have no meaning there"
    )
    assert refused.value.hint == "perplexity measures how well a model predicts texts"


def test_the_interval_is_over_texts():
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, 30, 200)
    surprises = np.stack([tokens * draw.uniform(1, 3, 200), tokens], axis=1)
    labels = np.arange(2 * 200).reshape(200, 2)

    metric = HuggingfaceMetrics().statistic("perplexity", HuggingfaceMetricsConfig())

    found = scored(metric, surprises, labels, surprises * [1.1, 1])

    mean = surprises[:, 0].sum() / tokens.sum()
    assert found.value == pytest.approx(math.exp(mean))
    means = [math.exp(np.divide(*surprises[draw.integers(0, 200, 200)].sum(axis=0))) for _ in range(4_000)]
    assert [found.low, found.high] == pytest.approx(np.percentile(means, [2.5, 97.5]).tolist(), rel=0.02)
    assert found.difference.value == pytest.approx(math.exp(mean) - math.exp(1.1 * mean))
    assert found.difference.high < 0
    assert not found.higher_is_better

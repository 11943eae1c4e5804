"""What a config may say of a figure, and what it is told if it says something else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hfopt.api.config import UnknownName
from hfopt.testing import validate
from hfopt_hf_metrics.backend import METRICS, HuggingfaceMetrics
from hfopt_hf_metrics.config import HuggingfaceMetricsConfig


def options(value):
    problems = []
    config = validate(HuggingfaceMetricsConfig, value, ("metric_config",), problems)
    assert problems == []
    return config


def complaint(value):
    problems = []
    assert validate(HuggingfaceMetricsConfig, value, ("metric_config",), problems) is None
    (problem,) = problems
    return ".".join(map(str, problem.path)), problem.message, problem.hint


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"load_params": None, "compute_params": {"average": "macro"}, "result_key": "f1"},
        {"load_params": {}, "compute_params": {"average": "weighted", "labels": [0, 2]}},
        {"compute_params": {"pos_label": 0}},
    ],
)
def test_options_survive_the_way_to_the_worker(written):
    config = options(written)

    revived = HuggingfaceMetricsConfig.model_validate_json(json.dumps(config.model_dump(mode="json")))

    assert HuggingfaceMetrics().statistic("f1", revived) == HuggingfaceMetrics().statistic("f1", config)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_needs_no_options_and_is_better_when_higher_unless_it_is_an_error(name):
    assert HuggingfaceMetrics().statistic(name, options({})).higher_is_better is (
        name not in ("cer", "mse", "perplexity", "wer")
    )


def test_a_misspelt_metric_is_a_name_that_is_not_known():
    with pytest.raises(UnknownName, match=r"^no metric named 'acuracy'; there is accuracy, cer, exact_match,"):
        HuggingfaceMetrics().statistic("acuracy", options({}))


def test_a_metric_that_is_not_built_in_needs_code_of_its_own():
    with pytest.raises(ValueError) as unknown:
        HuggingfaceMetrics().statistic("bleu", options({}))

    assert str(unknown.value) == (
        "no metric named 'bleu' is built in; there is accuracy, cer, exact_match, f1, matthews_correlation, mse, "
        "pearsonr, perplexity, precision, recall, roc_auc, seqeval, spearmanr, squad, squad_v2, wer. Others of "
        "evaluate run code of their own: load_params names it (path: a file of yours, or a space of the hub), or "
        "allows what is in evaluate's cache "
        '("trust_remote_code": true)'
    )


@pytest.mark.parametrize("name", METRICS)
def test_parameters_that_a_metric_does_not_have_are_refused(name):
    written = {"multi_class": "ovo"} if name != "roc_auc" else {"squared": False}
    (param,) = written

    with pytest.raises(ValueError, match=f"^compute_params: {name} (has none|takes [a-z_, ]+), not {param}$"):
        HuggingfaceMetrics().statistic(name, options({"compute_params": written}))


@pytest.mark.parametrize(
    ("name", "key", "yields"),
    [
        ("f1", "overall_f1", "'f1' and nothing else"),
        ("squad", "exact", "f1 or exact_match"),
        (
            "seqeval",
            "PER.f2",
            "overall_f1, overall_precision, overall_recall or overall_accuracy, "
            "or those of a type of entity, as PER.f1",
        ),
    ],
)
def test_another_result_than_the_metrics_own_is_refused(name, key, yields):
    with pytest.raises(ValueError, match=f"^result_key: {name} yields {yields}, got '{key}'$"):
        HuggingfaceMetrics().statistic(name, options({"result_key": key}))


@pytest.mark.parametrize(
    "written, place, message, hint",
    [
        (
            {"load_params": {"paths": "bleu.py"}},
            "metric_config.load_params.paths",
            "unknown key",
            "did you mean 'path'?",
        ),
        (
            {"compute_params": {"average": "marco"}},
            "metric_config.compute_params.average",
            "must be 'binary', 'macro', 'micro', 'weighted' or 'samples'",
            "did you mean 'macro'?",
        ),
        (
            {"compute_params": {"averages": "macro"}},
            "metric_config.compute_params.averages",
            "unknown key",
            "did you mean 'average'?",
        ),
        (
            {"compute_params": {"labels": [0, 1]}},
            "metric_config.compute_params",
            "labels has no effect with average binary: set average to macro, micro or weighted",
            None,
        ),
        (
            {"compute_params": {"average": "macro", "pos_label": 0}},
            "metric_config.compute_params",
            "pos_label has no effect with average macro: use labels, or average binary",
            None,
        ),
    ],
)
def test_a_mistake_is_reported_at_its_place(written, place, message, hint):
    assert complaint(written) == (place, message, hint)


def test_the_backend_works_without_evaluate_scikit_learn_and_torch():
    program = """
import sys
import numpy as np
from hfopt_hf_metrics.backend import HuggingfaceMetrics
rows = HuggingfaceMetrics().statistic("f1", HuggingfaceMetrics.Config()).rows(np.array([0, 1]), np.array([1, 1]))
print({"evaluate", "sklearn", "torch", "transformers", "datasets"} & set(sys.modules))
"""

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert printed == "set()\n"

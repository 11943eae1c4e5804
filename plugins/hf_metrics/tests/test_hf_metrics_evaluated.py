"""Metrics that evaluate computes, and what is told where they are not as they should be."""

from __future__ import annotations

import evaluate
import numpy as np
import pytest
from pydantic import ValidationError

from hfopt import PreconditionFailed, Reference
from hfopt.api.config import ConfigContext
from hfopt.testing import scored
from hfopt_hf_metrics.backend import HuggingfaceMetrics
from hfopt_hf_metrics.config import HuggingfaceMetricsConfig
from hfopt_hf_metrics.evaluated import LoadParams

SCRIPT = """
import datasets
import evaluate

class Off(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references, by=1):
        off = [abs(a - b) / by for a, b in zip(predictions, references)]
        return {"off": sum(off) / len(off), "more": {"most": max(off), "all": off}}
"""
LOGITS = np.array([[0.0, 0.0, 3.0], [4.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]], dtype=np.float32)
LABELS = np.array([0, 0, 2, 2])


def statistic(path, name="off", **options):
    written = {"load_params": {"path": str(path)}, **options}
    config = HuggingfaceMetricsConfig.model_validate(written, strict=False)
    return HuggingfaceMetrics().statistic(name, HuggingfaceMetricsConfig.model_validate_json(config.model_dump_json()))


@pytest.fixture
def off(tmp_path, monkeypatch):
    """A folder that is a metric."""
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    (tmp_path / "off").mkdir()
    (tmp_path / "off" / "off.py").write_text(SCRIPT)
    return tmp_path / "off"


def test_a_metric_of_a_folder_is_computed_as_evaluate_computes_it(off):
    expected = evaluate.load(str(off)).compute(predictions=LOGITS.argmax(1), references=LABELS)["off"]

    found = scored(statistic(off), LOGITS, LABELS, LOGITS[::-1].copy())

    assert (found.value, found.n, found.low, found.high) == (expected, 4, None, None)
    assert found.difference.value == 0.75 - 1.25


def test_it_is_told_its_own_parameters_and_a_dotted_key_finds_a_nested_result(off):
    chosen = statistic(off / "off.py", compute_params={"by": 2}, result_key="more.most")

    assert scored(chosen, LOGITS, LABELS).value == 1


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"result_key": "offs"}, "off yields off, more, and no 'offs'", "did you mean 'off'?"),
        ({"result_key": "more.least"}, "off yields most, all, and no 'least'", "set result_key in metric_config"),
        ({"result_key": "more.all"}, "more.all of off is no number, but a list", "set result_key in metric_config"),
        ({"compute_params": {"by": 0}}, "off of evaluate fails: ZeroDivisionError: division by zero", None),
        ({"name": "gap"}, "gap yields off, more, and no 'gap'", "set result_key in metric_config"),
    ],
)
def test_a_result_that_is_not_there_is_told(off, options, message, hint):
    with pytest.raises(PreconditionFailed) as failed:
        scored(statistic(off, **options), LOGITS, LABELS)

    assert failed.value.message == message
    assert failed.value.hint == hint


def test_a_metric_that_is_not_in_the_cache_is_told_with_what_puts_it_there(off):
    config = HuggingfaceMetricsConfig.model_validate({"load_params": {"trust_remote_code": True}})

    with pytest.raises(PreconditionFailed) as failed:
        scored(HuggingfaceMetrics().statistic("no_such_metric", config), LOGITS, LABELS)

    assert failed.value.message == "evaluate's cache has no metric 'no_such_metric'"
    assert failed.value.hint == '"path": "evaluate-metric/no_such_metric" in load_params fetches it from the hub'


def test_code_that_can_not_be_loaded_is_told(off):
    (off / "off.py").write_text("import evaluate\nraise KeyError('lost')\n")

    with pytest.raises(PreconditionFailed, match=r"^evaluate can't load .*off: KeyError: 'lost'$"):
        scored(statistic(off), LOGITS, LABELS)


def load_params(folder, **written):
    return LoadParams.model_validate(written, strict=False, context=ConfigContext(folder))


def test_a_space_of_the_hub_is_a_reference_if_its_code_may_run(tmp_path):
    chosen = load_params(tmp_path, path="evaluate-metric/off", revision="v1", trust_remote_code=True)

    assert chosen.path == Reference("hf_space", {"name": "evaluate-metric/off", "revision": "v1"}).token


def test_a_folder_of_that_name_is_taken_instead(tmp_path):
    (tmp_path / "evaluate-metric" / "off").mkdir(parents=True)

    assert load_params(tmp_path, path="evaluate-metric/off").path == str(tmp_path / "evaluate-metric" / "off")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"path": "evaluate-metric/off"},
            "no such file or folder: evaluate-metric/off; if a space of the hub is meant, its code would run here: "
            '"trust_remote_code": true allows that',
        ),
        ({"path": "off.py"}, "no such file or folder: off.py"),
        ({"path": ".", "revision": "v1"}, "revision is of a space of the hub, and this is none"),
        ({"revision": "v1"}, "revision is of a space of the hub, which path names"),
    ],
)
def test_what_is_no_metric_that_may_run_is_refused(tmp_path, written, message):
    with pytest.raises(ValidationError) as refused:
        load_params(tmp_path, **written)

    assert refused.value.errors()[0]["msg"] == f"Value error, {message}"

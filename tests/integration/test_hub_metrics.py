"""A metric whose code is a space of the hub, served on loopback."""

from __future__ import annotations

import os
import subprocess

import pytest

SCRIPT = """
import datasets
import evaluate
from .counting import share

class Agreement(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references, times=1):
        return {"agreement": TIMES * times * share(predictions, references)}
"""
COUNTING = b"def share(a, b):\n    return sum(x == y for x, y in zip(a, b)) / len(a)\n"


def space(times):
    return {
        "agreement.py": SCRIPT.replace("TIMES", str(times)).encode(),
        "counting.py": COUNTING,
        "README.md": b"# Agreement\n",
    }


@pytest.fixture
def judged(thread, hub):
    """A project whose model is judged by evaluate-metric/agreement beside accuracy."""
    hub.add_space("evaluate-metric/agreement", space(1))
    allowed = {"path": "evaluate-metric/agreement", "trust_remote_code": True}
    config = {"load_params": allowed, "compute_params": {"times": 2}}
    metric = thread.config["evaluators"]["e"]["metrics"][0]
    metric["backend"] = "huggingface_metrics"
    metric["sub_types"] = [{"name": "accuracy"}, {"name": "agreement", "metric_config": config}]
    thread.config["evaluators"]["e"]["metrics"] = [metric]
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    thread.environment = dict(hub.environment)
    return thread


def check(thread):
    command = thread.command("validate", str(thread.write()))
    return subprocess.run(command, env=os.environ | thread.environment, capture_output=True, text=True)


def figures(thread):
    metrics = thread.record()["results"][0]["input_model"]["metrics"]
    return [metrics[f"accuracy-{name}"]["value"] for name in ("accuracy", "agreement")]


@pytest.mark.timeout(300)  # three runs
def test_its_code_is_fetched_once_for_a_revision_and_the_score_depends_on_it(judged, hub):
    first = judged.run()

    assert first.returncode == 0, first.stderr
    accuracy, agreement = figures(judged)
    assert agreement == 2 * accuracy
    assert "evaluate-metric/agreement: revision main is " in first.stderr
    assert not any(request.path.endswith("README.md") for request in hub.requests)

    asked = len(hub.requests)
    offline = judged.run("--offline")
    assert offline.returncode == 0, offline.stderr
    assert (len(hub.requests), figures(judged)) == (asked, [accuracy, agreement])

    hub.add_space("evaluate-metric/agreement", space(3))
    newer = judged.run()
    assert newer.returncode == 0, newer.stderr
    assert figures(judged) == [accuracy, 6 * accuracy]


def test_checking_a_config_asks_the_hub_nothing_and_code_that_may_not_run_is_a_mistake(judged, hub):
    assert check(judged).returncode == 0
    figure = judged.config["evaluators"]["e"]["metrics"][0]["sub_types"][1]
    figure["metric_config"]["load_params"]["trust_remote_code"] = False

    refused = check(judged)

    assert refused.returncode == 2
    assert (
        "evaluators.e.metrics[0].sub_types[1].metric_config.load_params.path: no such file or folder: "
        "evaluate-metric/agreement; if a space of the hub is meant, its code would run here: "
        '"trust_remote_code": true allows that'
    ) in refused.stderr
    assert hub.requests == []


def test_a_space_that_the_hub_has_not_is_one_sentence(judged, hub):
    hub.remove("space", "evaluate-metric/agreement")

    done = judged.run()

    assert done.returncode == 1
    assert "the hub has no space 'evaluate-metric/agreement' that is open to you" in done.stderr
    assert "Traceback" not in done.stderr

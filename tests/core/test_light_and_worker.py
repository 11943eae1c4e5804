"""What commands import, and the worker spoken to directly."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hfopt.api.model import Accelerator
from hfopt.api.protocol import INPUT, Message, Request, StepRequest, StepResult
from hfopt.cache.digests import digest_file

TOY = Path(__file__).with_name("toy.py")
EXAMPLE = Path(__file__).parents[2] / "examples" / "reviews" / "config.json"
FRAMEWORKS = (
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "pandas",
    "numpy",
    "psutil",
    "ray",
)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["plugins"], ["validate", str(EXAMPLE)]])
def test_a_light_command_imports_no_framework_and_not_even_numpy(arguments):
    program = (
        "import sys\nfrom hfopt.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {FRAMEWORKS} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stderr.splitlines()[-1] == "[]"


def test_only_the_core_is_needed_to_say_what_the_example_needs():
    """As if nothing but the core were installed: no entry points are found."""
    program = (
        "import importlib.metadata, sys\n"
        "importlib.metadata.entry_points = lambda **_: ()\n"
        "from hfopt.cli.main import main\n"
        f"sys.exit(main(['run', {str(EXAMPLE)!r}]))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 3
    assert (
        "needs hfopt-hf-model-loader, which is not installed\n  hint: pip install ./plugins/hf_model_loader"
        in done.stderr
    )
    for name in ("hf-data", "hf-metrics", "onnx-conversion", "ort-passes"):
        assert f"needs hfopt-{name}, which is not installed" in done.stderr


@pytest.fixture
def worker(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "hfopt", "worker", "--store", str(tmp_path / "cache"), "-p", str(TOY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def request(folder, key, **changes):
    if not (folder / "line.json").exists():
        (folder / "line.json").write_text('{"slope": 2}')
    line = INPUT + digest_file(folder / "line.json")
    step = {
        "key": key, "name": "input", "kind": "fetch", "component": "toy:Line", "inputs": {}, "threads": 1,
        "config": {"model_path": line}, "paths": {line: str(folder / "line.json")}, "accelerator": Accelerator(),
    }  # fmt: skip
    return StepRequest(**{**step, **changes})


def ask(worker, *steps):
    worker.stdin.write(Request(steps=steps).model_dump_json() + "\n")
    worker.stdin.flush()
    messages = (Message.validate_json(line) for line in iter(worker.stdout.readline, ""))
    results = (message for message in messages if isinstance(message, StepResult))
    return list(itertools.islice(results, len(steps)))


def test_a_request_is_a_list_of_steps_each_perhaps_on_results_of_earlier_ones(worker, tmp_path):
    first = request(tmp_path, "a" * 64)
    second = request(
        tmp_path, "b" * 64, kind="pass", component="toy:Scale", inputs={"model": "a" * 64}, config={"factor": 3.0}
    )

    results = ask(worker, first, second)

    assert [(result.key, result.fault) for result in results] == [("a" * 64, None), ("b" * 64, None)]
    assert results[1].peak_rss_bytes > 1_000_000
    made = tmp_path / "cache" / "artifacts" / "bb" / ("b" * 64) / "line.json"
    assert json.loads(made.read_text()) == {"slope": 6.0}


def test_a_failed_step_is_a_typed_answer_and_the_worker_lives_on(worker, tmp_path):
    misbehave = {"kind": "pass", "component": "toy:Misbehave", "inputs": {"model": "a" * 64}}
    refused = request(tmp_path, "c" * 64, **misbehave, config={"how": "refuse"})
    raised = request(tmp_path, "d" * 64, **misbehave, config={"how": "raise_"})

    _, first, second, third = ask(worker, request(tmp_path, "a" * 64), refused, raised, request(tmp_path, "e" * 64))

    assert (first.fault.type, first.fault.hint, first.fault.expected) == ("PreconditionFailed", "straighten it", True)
    assert (second.fault.message, second.fault.expected) == ("ZeroDivisionError: division by zero", False)
    assert "raise_" in second.fault.traceback
    assert third.fault is None


def test_an_idle_worker_ends_when_its_host_is_gone(worker):
    worker.stdin.close()

    assert worker.wait(timeout=10) == 0


def test_a_busy_worker_ends_when_its_host_is_gone(worker, tmp_path):
    ask(worker, request(tmp_path, "a" * 64))
    hang = request(
        tmp_path, "b" * 64, kind="pass", component="toy:Misbehave", inputs={"model": "a" * 64}, config={"how": "hang"}
    )
    worker.stdin.write(Request(steps=(hang,)).model_dump_json() + "\n")
    worker.stdin.flush()
    time.sleep(0.3)
    worker.stdin.close()

    assert worker.wait(timeout=10) == 75


def test_a_worker_whose_host_is_gone_begins_nothing(worker, tmp_path):
    hang = request(
        tmp_path, "b" * 64, kind="pass", component="toy:Misbehave", inputs={"model": "a" * 64}, config={"how": "hang"}
    )
    worker.stdin.write(Request(steps=(request(tmp_path, "a" * 64), hang)).model_dump_json() + "\n")
    worker.stdin.close()

    assert worker.wait(timeout=10) == 75

"""The stopwatch: two fresh processes, whatever the models do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from hfopt import Accelerator, ModelHandle, PreconditionFailed
from hfopt.api.protocol import StepRequest
from hfopt.api.timing import CannotTime, Timed
from hfopt.worker import forks
from hfopt.worker.steps.measure import machine_load
from hfopt.worker.stopwatch import Stopwatch

RUDE = Path(__file__).with_name("rude.py")
FEEDS = [{"x": np.zeros(1)}]


def model(**settings):
    return Timed(ModelHandle(type="Rude", path=RUDE, files=(), inference_settings=settings), {"threads": 3})


def compare(first, second, feeds=FEEDS, **options):
    events = []
    watch = Stopwatch(Accelerator(), (RUDE,), lambda *event: events.append(event))
    return watch.compare(first, second, feeds, **{"warmup": 2, "runs": 16, **options}), events


def failure(first, second=None, feeds=FEEDS):
    with pytest.raises(CannotTime) as caught:
        compare(first, second or model(), feeds)
    return caught.value


def test_each_model_is_timed_in_a_process_of_its_own_without_secrets_with_the_threads_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = [tmp_path / "first", tmp_path / "second"]

    blocks, events = compare(
        *(model(log=str(file), delay=delay) for file, delay in zip(files, (0, 0.004), strict=True))
    )

    opened = [json.loads(file.read_text()) for file in files]
    assert len({os.getpid(), *(each["pid"] for each in opened)}) == 3
    assert [each["settings"] for each in opened] == [{"threads": 3}] * 2
    assert not any(each["token"] for each in opened)
    assert blocks.shape == (2, 16, 1)
    assert blocks[0].max() > 0
    assert blocks[1].min() >= 4
    assert events[-1] == ("timing", 16, 16)


def test_a_model_that_waits_for_its_turn_stands_still_with_all_its_threads(tmp_path):
    logs = [tmp_path / "first", tmp_path / "second"]
    still = []

    def look(_):
        processes = [psutil.Process(json.loads(log.read_text())["pid"]) for log in logs]
        deadline = time.monotonic() + 5
        while any(each.status() != psutil.STATUS_STOPPED for each in processes) and time.monotonic() < deadline:
            time.sleep(0.001)
        used = [each.cpu_times() for each in processes]
        time.sleep(0.05)
        still.append(used == [each.cpu_times() for each in processes])
        return False

    compare(*(model(log=str(log), how="keep_a_thread_busy") for log in logs), enough=look)

    assert still == [True] * 7


def test_what_a_type_of_models_imports_is_imported_once_for_all_processes_that_time_it(tmp_path):
    logs = [tmp_path / name for name in ("one", "two", "three")]
    compare(model(log=str(logs[0])), model(log=str(logs[1])))
    (forker,) = [each for each in psutil.Process().children() if "Rude" in each.cmdline()]
    parents = {json.loads(log.read_text())["parent"] for log in logs[:2]}

    forker.kill()
    forker.wait()
    compare(model(log=str(logs[2])), model())

    assert parents == {forker.pid}
    assert json.loads(logs[2].read_text())["imported"] == "colorsys"
    assert json.loads(logs[2].read_text())["parent"] != forker.pid


def test_a_worker_that_has_imported_nothing_yet_is_what_they_are_forked_from_without_its_secrets(tmp_path):
    log = tmp_path / "log"
    script = f"""
import os, sys; sys.path.insert(0, {str(RUDE.parent)!r})
import psutil
from hfopt.discovery.plugins import Plugins
from hfopt.worker.forks import fork_from_here
from test_measuring import RUDE, compare, model
secret = os.open({str(RUDE)!r}, os.O_RDONLY)
os.environ["HF_TOKEN_PATH"] = f"/dev/fd/{{secret}}"
fork_from_here(Plugins.discover((RUDE,)), "Rude")
fork_from_here(Plugins.discover((RUDE,)), "Rude")
compare(model(log={str(log)!r}), model(how="print"))
(forks,) = psutil.Process().children()
print(forks.pid, forks.cmdline() == psutil.Process().cmdline(), "HF_TOKEN_PATH" in os.environ, forks.num_fds())
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    pid, is_a_copy, is_left_alone, descriptors = done.stdout.split()
    opened = json.loads(log.read_text())
    assert (is_a_copy, is_left_alone, descriptors) == ("True", "True", "4"), done.stderr
    assert opened["parent"] == int(pid)
    assert (opened["imported"], opened["token_path"]) == ("colorsys", False)


def test_what_a_type_of_models_needs_is_imported_without_collections_and_out_of_their_sight_later():
    script = f"""
import gc, sys
from pathlib import Path
from hfopt.discovery.plugins import Plugins
from hfopt.worker.forks import preload
plugins, before = Plugins.discover((Path({str(RUDE)!r}),)), gc.get_freeze_count()
print(preload(plugins, "Rude"), "colorsys" in sys.modules, gc.isenabled(), gc.get_freeze_count() > before)
print(preload(plugins, "Rude"), preload(plugins, "NoSuchType"))
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout == "True True True True\nFalse False\n", done.stderr


def test_what_a_timed_model_prints_stays_off_the_terminal(capfd):
    compare(model(how="print"), model())

    assert capfd.readouterr() == ("", "")


def test_a_process_that_hangs_at_its_end_is_killed_and_its_timings_count(monkeypatch):
    monkeypatch.setattr(forks, "EXIT_SECONDS", 0.2)
    start = time.monotonic()

    blocks, _ = compare(model(how="hang_at_exit"), model())

    assert blocks.shape == (2, 16, 1)
    assert time.monotonic() - start < 30


def test_a_model_that_fails_in_its_warm_up_says_why_and_which_it_is():
    assert str(failure(model(how="fail_at_the_third_call"))) == "the Rude can't be timed: ValueError: three is too many"
    second = failure(model(), model(how="fail_at_the_third_call"))
    assert (second.position, second.message) == (1, "the Rude can't be timed: ValueError: three is too many")


def test_a_model_that_can_not_be_opened_gives_its_reason_and_hint():
    refused = failure(Timed(model(how="refuse").model, name="the candidate"))

    assert (refused.message, refused.hint) == ("the candidate can't be timed: this model is crooked", "straighten it")
    assert refused.position == 0


def test_feeds_that_do_not_fit_are_a_sentence():
    assert failure(model(), feeds=[{"y": np.zeros(1)}]).message == "the Rude can't be timed: KeyError: 'x'"


def test_no_feeds_at_all_are_a_sentence():
    with pytest.raises(PreconditionFailed, match="the data has no rows to time models on"):
        compare(model(), model(), [])


def test_a_crash_in_native_code_is_a_sentence_and_what_was_printed_before_goes_to_stderr(capfd):
    crashed = failure(model(), model(how="segfault"))

    assert crashed.message == "the process that timed the Rude was killed by SIGSEGV (a crash in native code)"
    assert crashed.position == 1
    assert capfd.readouterr().err.startswith("last words\n")


def test_an_end_of_file_in_the_model_is_not_taken_for_the_end_of_the_work():
    assert failure(model(how="lose_the_file")).message == "the Rude can't be timed: EOFError: the file ends here"


def test_with_a_time_limit_slow_models_run_less_often_but_32_times_at_least():
    fast, _ = compare(model(), model(), runs=64, seconds=60)
    slow, _ = compare(model(delay=0.01), model(), runs=64, seconds=0.1)

    assert (fast.size, slow.size) == (128, 64)


def test_timing_ends_after_a_round_that_is_enough_but_not_before_the_second():
    seen = []

    blocks, _ = compare(model(), model(), runs=64, enough=lambda so_far: seen.append(so_far.shape) or len(seen) == 2)

    assert seen == [(2, 4, 4), (2, 6, 4)]
    assert blocks.shape == (2, 6, 4)


def test_the_models_change_their_order_in_every_block(tmp_path):
    log = tmp_path / "calls"
    compare(model(calls=str(log), name="a"), model(calls=str(log), name="b"), runs=8, warmup=0)

    assert log.read_text() == "abba" * 4


def test_timing_processes_end_when_their_parent_is_killed_whatever_they_are_doing(tmp_path):
    log = tmp_path / "log"
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_measuring import compare, model
compare(model(log={str(log)!r}, delay=0.01), model(delay=0.01), runs=10**7)
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    child = json.loads(log.read_text())["pid"]

    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5

    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_others_left_of_the_cpus_is_told_if_timing_took_long_enough_to_know():
    told = []

    compare(model(delay=0.03), model(), runs=32, left=told.append)
    compare(model(), model(), runs=32, left=told.append)

    (left,) = told
    assert 0 <= left <= len(os.sched_getaffinity(0)) + 0.1


@pytest.mark.parametrize(("left", "warned"), [([], False), ([1.9], False), ([1.2], True), ([0.0], True)])
def test_a_busy_machine_is_a_warning_that_says_how_to_measure_again(left, warned):
    request = StepRequest(
        key="k",
        name="measure it",
        kind="measure",
        component="c",
        config={},
        inputs={},
        accelerator=Accelerator(),
        threads=2,
    )

    warning = machine_load(left, request).get("warning", "")

    assert bool(warning) is warned
    if warned:
        assert warning == (
            f"other processes left {left[0]:.1f} CPUs to 2 threads: the figures are not those of an idle "
            "machine; the next run measures again if it is idle then"
        )

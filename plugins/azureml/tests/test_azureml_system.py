"""The system AzureML itself: what it sends once, what it survives, what it says. Jobs run on the emulator's compute."""

from __future__ import annotations

import json
import os
import threading
import time
from importlib.metadata import version

import pytest
from pydantic import ValidationError

from hfopt import HfoptError, PreconditionFailed
from hfopt.api.protocol import Progress
from hfopt.testing.hosts import Host
from hfopt_azureml import environments
from hfopt_azureml import system as module
from hfopt_azureml.bringing import beside, visible
from hfopt_azureml.system import AzureML


@pytest.fixture
def signed_in(azureml_emulator, monkeypatch):
    """The emulator; this process reaches it as a client."""
    for name in os.environ.keys() - (given := azureml_emulator.client_env()).keys():
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    from hfopt_azureml import clients

    for made in (clients._workspace_client, clients._credential):
        made.cache_clear()
    return azureml_emulator


@pytest.fixture
def host(signed_in, aml, client, tmp_path):
    """Makes hosts."""

    def make(name="host", more=None, **options):
        config = {**aml["config"], "azureml_client_config": client, **(more or {})}
        return Host(tmp_path / name, {"type": "AzureML", "config": config}, **options).prepared()

    return make


def jobs(emulator):
    return {name: job.status for name, job in emulator.jobs.items()}


# -- options, without an emulator --------------------------------------------------------------------------------------


def test_a_config_says_where_and_in_which_environment(aml):
    config = aml["config"]
    docker = {"base_image": "python:3.11", "build_context_path": "."}

    with pytest.raises(ValidationError, match="is of an environment that hfopt makes, but aml_env"):
        AzureML.Config(**config, olive_managed_env=True)
    with pytest.raises(ValidationError, match="a step runs on one machine"):
        AzureML.Config(**config, instance_count=2)
    with pytest.raises(ValidationError, match="needs base_image or build_context_path, and not both"):
        AzureML.Config(aml_compute="cpu", aml_docker_config=docker)
    with pytest.raises(ValidationError, match="is another way to say which version"):
        AzureML.Config(aml_compute="cpu", aml_environment_config={"name": "e", "version": 1, "label": "latest"})


def test_files_beside_a_model_go_with_it_if_it_names_them_and_hidden_ones_never(tmp_path):
    for name, text in {
        "model.onnx": "location weights.bin",
        "weights.bin": "w",
        "private.txt": "p",
        ".git/config": "g",
        "script.py": "import helper",
        "helper.py": "h",
        "data.csv": "weights.bin",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert {*beside(tmp_path / "model.onnx")} == {"weights.bin"}
    assert {*beside(tmp_path / "script.py")} == {"helper.py"}
    assert beside(tmp_path / "data.csv") == {}
    assert ".git/config" not in visible(tmp_path)


# -- what is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_content_is_sent_once_and_what_a_job_has_made_is_not_sent_at_all(signed_in, host):
    first, again = host("first"), host("again")

    early = first.do(first.line(), first.points())
    (scaled,) = first.do(first.scaled(factor=2.0))
    further = first.do(first.scaled(key="e", of="c", factor=3.0), first.points(key="f"))
    found = again.do(again.line(), again.points())

    assert [each.fault for each in (*early, scaled, *further, *found)] == [None] * 7
    assert [each.manifest["digest"] for each in found] == [each.manifest["digest"] for each in early]
    assert len(jobs(signed_in)) == 3
    sent = {name: times for name, times in signed_in.uploads.items() if "/hfopt/" in name}
    assert {*sent.values()} == {1}
    ours = [name for name in sent if "/hfopt/jobs/" not in name]
    assert sum("points.json" in name for name in ours) == sum("line.json" in name for name in ours) == 1
    assert not any("/hfopt/artifacts/" in name for name in ours)
    assert json.loads((first.artifact("e") / "line.json").read_text()) == {"slope": 3.0}


@pytest.mark.engine
def test_what_a_cache_of_this_machine_has_is_sent_once(signed_in, host):
    fresh = host("fresh")
    fresh.do_here(fresh.line())

    results = fresh.do(fresh.scaled(factor=2.0)) + fresh.do(fresh.scaled(key="e", factor=4.0))

    assert [each.fault for each in results] == [None, None]
    assert {times for name, times in signed_in.uploads.items() if "/hfopt/artifacts/" in name} == {1}


# -- what it survives --------------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize("status", [429, 500])
def test_every_fifth_request_that_fails_is_made_again_and_nothing_is_sent_twice(signed_in, host, status):
    from azureml_emulator.faults import Fault

    there = host()
    headers = {"Retry-After": "0"} if status == 429 else {}
    fault = signed_in.faults.add(Fault(every=5, status=status, code="Busy", headers=headers))

    results = there.do(there.line(), there.points(), there.scaled(factor=2.0))
    signed_in.faults.clear()

    assert [each.fault for each in results] == [None] * 3
    assert fault.struck > 5
    assert {times for name, times in signed_in.uploads.items() if "/hfopt/" in name} == {1}
    assert [*jobs(signed_in).values()] == ["Completed"]


@pytest.mark.engine
def test_cut_connections_are_survived_in_upload_download_and_log(signed_in, host):
    from azureml_emulator.faults import Fault

    there = host(points=[[1, 0]] * 200_000)
    cuts = [
        Fault(method="PUT", path="*/hfopt/inputs/*", cut="request", after=1000, times=2),
        Fault(method="PUT", path="*/hfopt/bundles/*", cut="answer", times=1),
        Fault(method="GET", path="*/made/artifacts/*", cut="answer", after=100_000, times=2),
        Fault(method="GET", path="*std_log.txt", cut="answer", after=3, times=2),
        Fault(method="PUT", path="*/jobs/hfopt-*", cut="answer", times=1),
    ]
    for cut in cuts:
        signed_in.faults.add(cut)

    results = there.do(there.line(), there.scaled(factor=2.0), there.points())

    assert [each.fault for each in results] == [None] * 3
    assert [each.struck for each in cuts] == [2, 1, 2, 2, 1]
    assert (there.artifact("a") / "points.json").stat().st_size > 1_000_000
    assert there.log.count("scaled by 2.0\n") == 1
    assert [*jobs(signed_in).values()] == ["Completed"]


@pytest.mark.engine
def test_a_step_that_failed_is_done_again_and_the_others_are_not(signed_in, host):
    first, second = host("first"), host("second")
    failed = first.do(first.line(), first.behaving("refuse"))
    again = second.do(second.line(), second.behaving("refuse"))

    assert [each.fault and each.fault.message for each in failed] == [None, "the line is too long"]
    assert [each.fault and each.fault.message for each in again] == [None, "the line is too long"]
    assert [job.definition["displayName"] for job in signed_in.jobs.values()] == [
        "TestLine, TestBehave",
        "TestBehave",
    ]


# -- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_job_that_fails_is_its_steps_error_with_the_last_lines_of_its_log(signed_in, host, monkeypatch):
    there = host()
    monkeypatch.setattr(module, "COMMAND", "echo first; echo no space; echo left here; exit 3")

    (result,) = there.do(there.points())

    (job,) = signed_in.jobs
    assert result.fault.type == "JobFailed"
    assert result.fault.message == f"job {job} failed: first | no space | left here"
    assert "its page: https://ml.azure.com/runs/" in result.fault.hint


@pytest.mark.engine
def test_a_job_that_somebody_cancels_is_told_and_done_again_by_the_next_run(signed_in, host):
    there = host()
    waiting = there.start(there.line(), there.behaving("wait"))
    begun(there, "d")
    (job,) = signed_in.jobs

    signed_in._jobs.cancel(signed_in.jobs[job])
    line, lost = (each.result(30) for each in waiting)
    (again,) = host("again").do(there.line())

    assert line.fault is None
    assert lost.fault.message.startswith(f"job {job} was cancelled")
    assert again.fault is None


@pytest.mark.engine
def test_a_job_that_waits_for_ever_is_told_and_ends_with_the_run(signed_in, host):
    signed_in.add_compute("full", nodes=0)
    there = host(more={"aml_compute": "full"})
    (waiting,) = there.start(there.points())
    deadline = time.monotonic() + 20
    while not signed_in.jobs or not any("queued" in phase for phase, *_ in there.phases):
        assert time.monotonic() < deadline, there.phases
        time.sleep(0.05)

    began = time.monotonic()
    there.system.cancel()

    assert time.monotonic() - began < 2
    (job,) = signed_in.jobs
    assert signed_in.wait(job) == "Canceled"
    assert any(phase == f"job {job} on full: queued" for phase, *_ in there.phases)
    with pytest.raises(PreconditionFailed, match="the run is over"):
        waiting.result(10)


@pytest.mark.engine
def test_a_quota_that_is_used_up_is_one_sentence(signed_in, host):
    from azureml_emulator.faults import Fault

    there = host()
    message = "The request would exceed the quota of 4 cores of family standardDSv2Family."
    signed_in.faults.add(Fault(method="PUT", path="*/jobs/*", status=403, code="QuotaExceeded", message=message))

    (waiting,) = there.start(there.points())

    with pytest.raises(HfoptError) as raised:
        waiting.result(30)
    assert raised.value.message.endswith(message)
    assert raised.value.message.startswith("Azure has no quota left for job hfopt-")
    assert jobs(signed_in) == {}


@pytest.mark.engine
def test_what_is_missing_in_the_workspace_is_named_before_anything_is_sent(signed_in, host):
    with pytest.raises(PreconditionFailed, match="there is no compute nowhere"):
        host(more={"aml_compute": "nowhere"})
    with pytest.raises(PreconditionFailed, match="there is no environment missing:3"):
        host(more={"aml_environment_config": {"name": "missing", "version": "3"}})

    assert signed_in.uploads == {}


@pytest.mark.engine
def test_an_environment_is_made_once_for_what_it_is_made_of(signed_in, host, tmp_path):
    conda = tmp_path / "conda.yml"
    conda.write_text("dependencies: [python=3.11]\n")
    docker = {"base_image": "python:3.11-slim", "conda_file_path": str(conda)}
    more = {"aml_environment_config": None, "aml_docker_config": docker}
    host("one", more=more)
    host("two", more=more)
    conda.write_text("dependencies: [python=3.12]\n")
    host("three", more=more)

    made = [each.path for each in signed_in.requests if each.method == "PUT" and "/environments/" in each.path]
    assert len(made) == len({*made}) == 2


@pytest.mark.engine
def test_hfopts_own_environment_has_what_steps_need_and_is_made_once(signed_in, host, tmp_path):
    (tmp_path / "more.txt").write_text("einops\n")
    more = {"aml_environment_config": None, "requirements_file": str(tmp_path / "more.txt")}

    first = host("one", more=more, distributions=("hfopt", "hfopt-onnx-model"))
    host("two", more=more, distributions=("hfopt", "hfopt-onnx-model"))

    assert [each.fault for each in first.do(first.line())] == [None]
    made = [each for each in signed_in.requests if each.method == "PUT" and "/environments/hfopt-" in each.path]
    assert len(made) == 1
    config = AzureML.Config(aml_compute="cpu", requirements_file=str(tmp_path / "more.txt"))
    files = environments.own(config, ("hfopt", "hfopt-onnx-model"))
    assert f"onnx=={version('onnx')}" in files["requirements.txt"].splitlines()
    assert files["requirements.txt"].splitlines()[-1] == "einops"
    assert files["Dockerfile"].startswith(f"FROM {environments.PYTHON}\n")
    sent = [name for name in signed_in.uploads if name.endswith("requirements.txt")]
    assert len(sent) == 1


def test_an_image_of_ones_own_gets_what_steps_need_only_if_that_is_asked_for():
    image = {"base_image": "python:3.12"}

    assert not AzureML.Config(aml_compute="cpu", aml_docker_config=image).own_environment
    config = AzureML.Config(aml_compute="cpu", aml_docker_config=image, olive_managed_env=True)
    assert environments.own(config, ["hfopt"])["Dockerfile"].startswith("FROM python:3.12\n")


def begun(host, key):
    """Wait until a step of a job runs."""
    deadline = time.monotonic() + 60
    while not any(isinstance(each, Progress) and each.key == key * 64 for each in host.told):
        assert time.monotonic() < deadline, host.told
        threading.Event().wait(0.05)

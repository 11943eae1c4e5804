"""What goes wrong between here and Azure while models are fetched and while a run's steps are jobs."""

from __future__ import annotations

import os

import pytest

from hfopt.testing.systems import Project, waited_for

pytestmark = pytest.mark.engine

ARM, BLOBS = "management.azure.com", "*.blob.core.windows.net"


def fault(emulator, **fields):
    from azureml_emulator.faults import Fault

    return emulator.faults.add(Fault(**fields))


@pytest.fixture
def project(azureml_emulator, client, aml, tmp_path, monkeypatch):
    """A project whose steps are jobs, run in this process's environment: that of a client of the emulator."""
    given = azureml_emulator.client_env()
    for name in os.environ.keys() - given.keys():
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    made = Project(tmp_path / "project", {**aml, "config": {**aml["config"], "azureml_client_config": client}})
    made.config["evaluators"]["e"]["metrics"].pop()  # latency: a measurement waits for all other runs of the machine
    return made


def ended(emulator):
    return all(job.status in ("Completed", "Failed", "Canceled") for job in emulator.jobs.values())


# -- what is fetched ---------------------------------------------------------------------------------------------------


def test_a_signature_that_expires_in_a_download_is_had_anew(azureml_emulator, get, tree):
    azureml_emulator.add_model("signed", tree / "model")
    expired = fault(azureml_emulator, method="GET", path="*weights*", status=403, code="AuthenticationFailed", times=2)

    said = get("azureml_model", name="signed", version="1")

    assert said["report"]["files"] == 3
    assert expired.struck == 2
    signatures = [each for each in azureml_emulator.requests if each.path.endswith("/listSecrets")]
    assert len(signatures) == 4, "to look, to download, and for each that has expired"


def test_who_may_not_read_blobs_is_told_at_once(azureml_emulator, get, tree):
    azureml_emulator.add_model("closed", tree / "model")
    closed = fault(azureml_emulator, host=BLOBS, path="*weights*", status=403, code="AuthorizationPermissionMismatch")

    said = get("azureml_model", name="closed", version="1")

    assert said["message"].endswith("/models/closed/versions/1 (AuthorizationPermissionMismatch)")
    assert "Storage Blob Data Reader" in said["hint"]
    assert closed.struck == 1


@pytest.mark.parametrize("azureml_emulator", ["identity"], indirect=True)
def test_tokens_that_last_two_seconds_are_renewed(azureml_emulator, get, tree):
    azureml_emulator.add_model("long", tree / "model")
    azureml_emulator.identities.token_seconds = 2
    for host in (ARM, BLOBS):
        fault(azureml_emulator, method="GET", host=host, status=429, headers={"Retry-After": "3"}, times=1)

    said = get("azureml_model", name="long", version="1")

    assert "report" in said, said["message"]


def test_a_token_that_is_refused_is_had_anew_once(azureml_emulator, get, tree):
    azureml_emulator.add_model("revoked", tree / "model")
    once = fault(azureml_emulator, host=ARM, path="*/models/*", status=401, times=1)

    had = get("azureml_model", name="revoked", version="1")
    ever = fault(azureml_emulator, host=ARM, path="*/models/*", status=401)
    refused = get("azureml_model", name="revoked", version="1", to="refused")

    assert had["report"]["files"] == 3
    assert (once.struck, ever.struck) == (1, 2)
    assert refused["message"] == "Azure does not accept the sign-in for model revoked:1"
    assert sum(each.path.endswith("/token") for each in azureml_emulator.requests) == 4


# -- a run whose steps are jobs ----------------------------------------------------------------------------------------


def test_a_run_overcomes_errors_and_broken_connections_and_does_nothing_twice(azureml_emulator, project):
    jobs = {"host": ARM, "path": "*/jobs/hfopt-*"}
    faults = [
        fault(azureml_emulator, method="GET", path="*/std_log.txt", cut="answer", after=5, every=2, times=3),
        fault(azureml_emulator, method="GET", every=2, times=4, **jobs),
        fault(azureml_emulator, method="PUT", cut="answer", times=1, **jobs),
        fault(azureml_emulator, every=5, status=500, times=20),
        fault(azureml_emulator, every=5, status=429, headers={"Retry-After": "0"}),
    ]

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert all(each.struck for each in faults)
    told = sorted(line for line in project.log.splitlines() if line.startswith("scaled by"))
    assert told == ["scaled by 0.5", "scaled by 0.5, too", "scaled by 2.0", "scaled by 2.0, too"]
    assert max(azureml_emulator.uploads.values()) == 1
    assert len(azureml_emulator.jobs) == len({job.definition["displayName"] for job in azureml_emulator.jobs.values()})
    assert ended(azureml_emulator)


def test_a_token_that_is_refused_while_a_job_runs_is_had_anew(azureml_emulator, project):
    running = project.behaving("wait").start()
    assert waited_for(
        lambda: any("half" in job.definition["displayName"] for job in azureml_emulator.jobs.values()), 60
    )

    asked = len(azureml_emulator.requests)
    azureml_emulator.identities.expire()

    def found_out():
        new = azureml_emulator.requests[asked:]
        return any(each.status == 401 for each in new) and new[-1].status == 200

    assert waited_for(found_out, 20)
    assert running.poll() is None
    running.terminate()
    running.communicate()
    assert waited_for(lambda: ended(azureml_emulator), 10)

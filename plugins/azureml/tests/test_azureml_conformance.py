"""AzureML does what every system does, but that a job survives the host that has submitted it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from hfopt.testing import lines
from hfopt.testing.systems import SystemConformance, waited_for

ENDED = ("Completed", "Failed", "Canceled")


@pytest.fixture(scope="module")
def emulator(azureml_emulators):
    """One for all: what is known of the compute's environment is asked once."""
    emulator = azureml_emulators("sas")
    emulator.reset()
    yield emulator
    assert emulator.unknown == []
    assert emulator.refused == []


@pytest.mark.engine
@pytest.mark.timeout(300)
class TestAzureML(SystemConformance):
    @pytest.fixture(autouse=True)
    def _signed_in(self, emulator, monkeypatch):
        self.emulator = emulator
        for name in os.environ.keys() - (given := emulator.client_env()).keys():
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    @pytest.fixture
    def entry(self, aml, client):
        return {**aml, "config": {**aml["config"], "azureml_client_config": client}}

    def heartbeats(self, project):
        found = []
        for job in self.left_over(project):
            with suppress(OSError):  # it is being removed, or not there yet
                files = (self.emulator.folder / "jobs" / job / "tmp").rglob(lines.HEARTBEAT)
                found.extend(file.read_text() for file in files)
        return found

    def left_over(self, project):
        return [job.name for job in self.emulator.jobs.values() if job.status not in ENDED]

    def test_nothing_goes_on_when_the_host_is_killed(self, project, running):
        """Not so: a job takes hours, and a laptop is closed. The next run of the same finds it, and can end it."""
        running.kill()
        running.wait()
        (job,) = self.left_over(project)
        before = self.heartbeats(project)
        assert waited_for(lambda: self.heartbeats(project) != before, 5)

        jobs = len(self.emulator.jobs)
        again = project.start()
        assert waited_for(lambda: f"job {job} runs already" in project.log, 60), project.log
        again.send_signal(signal.SIGINT)

        assert again.wait(timeout=30) == 130
        assert waited_for(lambda: self.over(project), 5)
        assert len(self.emulator.jobs) == jobs
        again.communicate()

"""What docs/how-to/azureml-emulator.md shows works as it stands there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from azureml_emulator.faults import Fault

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "azureml-emulator.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.usefixtures("azureml_emulator")  # says why, where there can be none
def test_the_commands_start_an_emulator_that_the_sdk_finds():
    install, *commands = blocks("sh")
    assert install == "make azurite\n"
    script = ["bash", "-ec", "\n".join(commands)]

    shell = subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said, _ = shell.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)

    assert shell.returncode == 0
    assert said.splitlines()[-1].endswith("/datastores/workspaceblobstore/paths/models/docs/1/how-to")


def test_the_test_that_is_shown_passes(azureml_emulator, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    (text,) = blocks("py")
    exec(compile(text, "page", "exec"), names)

    names["test_a_throttled_model_is_fetched"](azureml_emulator, tmp_path)


def test_the_faults_that_are_shown_are_faults():
    shown = re.findall(r"`(Fault\(.*?\))`", PAGE)

    assert len(shown) == 9
    assert all(isinstance(eval(text, {"Fault": Fault}), Fault) for text in shown)

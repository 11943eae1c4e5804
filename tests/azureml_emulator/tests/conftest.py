"""Programs that use the real SDK, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from azureml_emulator.places import GROUP, SUBSCRIPTION, WORKSPACE

BEGINNING = f"""
import json, sys, tempfile, time
from pathlib import Path
from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.entities import Data, Environment, Model
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
credential = DefaultAzureCredential()
ml = MLClient(credential, "{SUBSCRIPTION}", "{GROUP}", "{WORKSPACE}", show_progress=False)
said = {{}}
"""


def run(program, environment, *arguments):
    """What a program has put into ``said``; it finds arguments in sys.argv."""
    text = BEGINNING + textwrap.dedent(program) + "\nprint(json.dumps(said))"
    command = [sys.executable, "-c", text, *map(str, arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture
def sdk():
    """Runs a program after the SDK's imports, with a client ``ml``, and returns what it has put into ``said``."""
    return run


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "tiny"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").write_bytes(bytes(range(256)) * 1000)
    (folder / "sub" / "config.json").write_text("{}")
    return folder

"""A worker's part alone, in a process of its own: resources of a workspace, resolved and fetched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, logging, resource, sys
from pathlib import Path
from hfopt import PreconditionFailed
from hfopt.api.resources import ResourceContext
from hfopt.discovery.plugins import Plugins

logging.basicConfig(level=logging.INFO)
kind, options, folder, offline, setup = json.loads(sys.argv[1])
exec(setup)
cls = Plugins.discover().find("hfopt_resources", kind).load()
progress = []
context = ResourceContext(offline, lambda *told: progress.append(told), unfinished=Path(folder + "-unfinished"))
place = cls(cls.Config.model_validate_json(json.dumps(options)))
said = {}
try:
    said["resolved"] = vars(place.resolve(context))
    Path(folder).mkdir(exist_ok=True)
    said["report"] = place.fetch(said["resolved"]["pin"], Path(folder), context)
except PreconditionFailed as failure:
    said |= {"message": failure.message, "hint": failure.hint}
said["progress"] = progress[-1:]
said["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(said))
"""
QUICK = {"max_operation_retries": 3, "operation_retry_interval": 0.05}


@pytest.fixture
def client():
    """The section azureml_client of the emulator's workspace."""
    from azureml_emulator.places import GROUP, SUBSCRIPTION, WORKSPACE

    place = {"subscription_id": SUBSCRIPTION, "resource_group": GROUP, "workspace_name": WORKSPACE}
    return {**place, **QUICK}


@pytest.fixture
def get(azureml_emulator, client, tmp_path):
    """Resolves and fetches; returns what was said: ``resolved`` and ``report``, or the failure's ``message``."""

    def resolve_and_fetch(kind, *, to="out", offline=False, setup="", environment=None, own=None, **options):
        folder = str(tmp_path / to)
        request = json.dumps([kind, {"azureml_client": {**client, **(own or {})}, **options}, folder, offline, setup])
        given = {**azureml_emulator.client_env(), **(environment or {})}
        given = {name: value for name, value in given.items() if value is not None}
        command = [sys.executable, "-c", PROGRAM, request]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "log": done.stderr, "folder": Path(folder)}

    return resolve_and_fetch


@pytest.fixture
def tree(tmp_path):
    """A folder to store, with names that are nearly each other's."""
    folder = tmp_path / "tree"
    for name, content in {
        "model/config.json": b"{}",
        "model/data/weights with space.bin": bytes(range(256)) * 5000,
        "model/empty": b"",
        "model2/config.json": b'{"not": "this"}',
        "model.txt": b"nor this",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def aml():
    """The system AzureML on the emulator's compute, whose jobs have the packages of this environment."""
    return {
        "type": "AzureML",
        "config": {"aml_compute": "cpu-cluster", "aml_environment_config": {"name": "local", "version": "1"}},
    }

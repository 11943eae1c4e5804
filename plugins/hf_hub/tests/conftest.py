"""A client of the hub on loopback: a process, as clients read their environment when they are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import errno, json, os, sys
from pathlib import Path
from hfopt import PreconditionFailed
from hfopt.api.resources import ResourceContext
from hfopt_hf_hub.model import HfModel, HfModelConfig

options, offline, folder, setup = json.loads(sys.argv[1])
exec(setup)
context = ResourceContext(offline, lambda *_: None)
model = HfModel(HfModelConfig.model_validate_json(json.dumps(options)))
try:
    resolved = model.resolve(context)
    Path(folder).mkdir()
    report = model.fetch(resolved.pin, Path(folder), context)
    print(json.dumps({"resolved": vars(resolved), "report": report}))
except PreconditionFailed as failure:
    print(json.dumps({"message": failure.message, "hint": failure.hint}))
"""


@pytest.fixture
def get(hub, tmp_path):
    """Resolves and fetches a model in a process of its own; returns what it said, or the failure's sentence."""

    def resolve_and_fetch(name="acme/tiny", *, to="out", offline=False, setup="", token=None, endpoint=None, **options):
        request = json.dumps([{"name": name, **options}, offline, str(tmp_path / to), setup])
        environment = {**os.environ, **hub.environment}
        environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        environment |= {"HF_TOKEN": token} if token else {}
        environment |= {"HF_ENDPOINT": endpoint} if endpoint else {}
        command = [sys.executable, "-c", PROGRAM, request]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert token is None or token not in done.stdout
        return json.loads(done.stdout)

    return resolve_and_fetch


@pytest.fixture
def files(tmp_path):
    """The files of a folder by path."""

    def of(folder="out") -> dict[str, Path]:
        root = tmp_path / folder
        return {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}

    return of

"""What a job is told, and how it answers: known to the host and to the job. Imports no Azure.

A job has what it reads as inputs, each a folder; their names stand in the errand. It writes into one output:
``results/N.json`` is the `StepResult` of the N-th step, ``artifacts/KEY`` what that step has made. A result is written
after its artifact, and the artifact's manifest after its other files, so that whatever is there is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hfopt.api.protocol import StepRequest

MANIFEST = "manifest.json"
ERRAND = "errand.json"
PACKED = "hfopt.tar"
"""hfopt itself, as `SystemContext.bundle` makes it."""
FETCHED = "files"
"""Where in a fetched artifact its files are."""
RESULTS, ARTIFACTS = "results", "artifacts"
TOLD = "hfopt: "
"""Begins a line of a job's log that is a `Progress`."""


class Errand(BaseModel):
    """The steps of a job.

    :param steps: without paths of the host
    :param places: where an input of the user's lies, by its token: the job's input, and the path in that
    :param artifacts: the job's input that is the artifact of a key
    :param fetched: likewise for the files of a fetched one, if they lie elsewhere than its manifest
    :param plugin_files: ``-p`` files, by their names in the bundle
    :param log_levels: environment of workers
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[StepRequest, ...]
    places: dict[str, tuple[str, str]]
    artifacts: dict[str, str]
    fetched: dict[str, str] = {}
    plugin_files: tuple[str, ...] = ()
    log_levels: dict[str, str] = {}

    def portable(self) -> str:
        """What is the same for every host and whatever it has already: what is to be done."""
        steps = [each.model_dump(mode="json") | {"paths": sorted(each.paths)} for each in self.steps]
        return json.dumps([steps, self.plugin_files, self.log_levels], sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return sha256(self.model_dump_json().encode()).hexdigest()


def artifact_folder(store: Path, key: str) -> Path:
    """Where a store has the artifact of a key."""
    return store / "artifacts" / key[:2] / key


def needed(store: Path, keys: Iterable[str]) -> list[str]:
    """Those of some artifacts that a store has, and all that they use of others; sorted."""
    waiting, found = list(keys), set[str]()
    while waiting:
        key = waiting.pop()
        manifest = artifact_folder(store, key) / MANIFEST
        if key not in found and manifest.is_file():
            found.add(key)
            waiting += json.loads(manifest.read_text("utf-8"))["uses"]["artifacts"]
    return sorted(found)

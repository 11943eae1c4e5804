"""A cache, and a system that gets steps one by one: for tests of what a system does beside the conformance suite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from hfopt.api.model import Accelerator
from hfopt.api.protocol import INPUT, Progress, StepKind, StepRequest, StepResult
from hfopt.api.systems import System, SystemContext
from hfopt.cache.bundle import bundle
from hfopt.cache.digests import digest_file
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins
from hfopt.testing import lines
from hfopt.worker.serve import execute

__all__ = ["Host"]

PLUGIN = Path(lines.__file__)
HOOKS: Mapping[StepKind, str] = {
    "data": "hfopt_data_containers",
    "fetch": "hfopt_model_loaders",
    "pass": "hfopt_passes",
}


class Host:
    """A machine with a cache, a model, data, and a system.

    Keys are single letters here: ``points("a")`` is the step whose key is 64 of them.

    :param entry: the system as a config writes it
    :param points: the rows of the data: x and label
    :param distributions: see `hfopt.api.systems.SystemContext`
    """

    def __init__(
        self,
        folder: Path,
        entry: Mapping[str, Any],
        points: Any = ((1, 0),),
        distributions: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "points.json").write_text(json.dumps(points))
        (folder / "line.json").write_text('{"slope": 0.5}')
        self.folder = folder
        self.told: list[Progress] = []
        self.phases: list[tuple[str, int, int | None]] = []
        self._plugins = Plugins.discover([PLUGIN])
        self._store = ArtifactStore(folder / "cache")
        self._tokens = {name: INPUT + digest_file(folder / name) for name in ("points.json", "line.json")}
        self._store.inputs |= {token: str(folder / name) for name, token in self._tokens.items()}
        context = SystemContext(
            store=self._store.root,
            take_in=self._store.take_in,
            log=folder / "log",
            bundle=lambda: bundle(self._store, self._plugins),
            distributions=distributions,
            plugin_files=(PLUGIN,),
        )
        cls = self._plugins.find("hfopt_systems", entry["type"]).load()
        self.system: System = cls(cls.Config.model_validate_json(json.dumps(entry.get("config", {}))), context)

    def prepared(self) -> Host:
        """This host, whose system has been prepared; what that told is in `phases`."""
        self.system.prepare(lambda *told: self.phases.append(told))
        return self

    def step(
        self, kind: StepKind, component: str, config: dict[str, Any], key: str, inputs: dict[str, str] | None = None
    ) -> StepRequest:
        """A step.

        :param config: names of the host's files stand for them
        :param inputs: the keys of earlier steps, by role
        """
        read = {"line.json"} if inputs else {name for name in self._tokens if name in config.values()}
        return StepRequest(
            key=key * 64,
            name=component,
            kind=kind,
            component=self._plugins.find(HOOKS[kind], component).full_name,
            config={option: self._tokens.get(value, value) for option, value in config.items()},
            inputs={role: parent * 64 for role, parent in (inputs or {}).items()},
            paths={self._tokens[name]: str(self.folder / name) for name in read},
            accelerator=Accelerator(device="cpu", execution_provider="CPUExecutionProvider"),
            threads=1,
        )

    def points(self, key: str = "a") -> StepRequest:
        """Prepares the data."""
        return self.step("data", "TestPoints", {"data_file": "points.json"}, key)

    def line(self, key: str = "b") -> StepRequest:
        """Fetches the model."""
        return self.step("fetch", "TestLine", {"model_path": "line.json"}, key)

    def scaled(self, key: str = "c", of: str = "b", **config: Any) -> StepRequest:
        """Scales a model."""
        return self.step("pass", "TestScale", config, key, inputs={"model": of})

    def behaving(self, how: str, key: str = "d", of: str = "b") -> StepRequest:
        """Does what no step should."""
        return self.step("pass", "TestBehave", {"how": how}, key, inputs={"model": of})

    def start(self, *steps: StepRequest) -> list[Future[StepResult]]:
        """Hand steps to the system; what they tell is in `told`."""
        return self.system.submit(steps, self.told.append)

    def do(self, *steps: StepRequest, seconds: float = 120) -> list[StepResult]:
        """The results of steps."""
        return [each.result(seconds) for each in self.start(*steps)]

    def do_here(self, step: StepRequest) -> None:
        """Have this process do a step instead of the system."""
        execute(step, self._store.root, self._plugins, self.told.append, offline=False)

    def artifact(self, key: str) -> Path:
        """The folder of what a step has made."""
        return self._store.folder(key * 64)

    @property
    def log(self) -> str:
        """What was printed."""
        return (self.folder / "log").read_text("utf-8")

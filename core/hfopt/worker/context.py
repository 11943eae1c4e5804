"""What a step gets and what it yields, besides files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from hfopt.api.config import Config, ReportProgress
from hfopt.api.data import DataContainer, Dataset
from hfopt.api.metrics import Metric
from hfopt.api.model import Accelerator, ModelHandle, ModelLoader, Session
from hfopt.api.protocol import StepRequest
from hfopt.api.references import MARK
from hfopt.api.resources import ResourceContext, TokenProvider
from hfopt.base.secrets import learn
from hfopt.base.values import replace_strings
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins
from hfopt.worker.forks import preload
from hfopt.worker.stopwatch import Stopwatch

C = TypeVar("C", bound=Config)

FETCHED = "files"
"""Where in a fetched resource's artifact its files are: they may have any name, the manifest's too."""


@dataclass(frozen=True)
class Outcome:
    """What a step yields.

    :param model: the model that the artifact is, if it is one
    :param metrics: figures by their key in run.json
    :param report: JSON for people
    """

    model: ModelHandle | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepContext:
    """Where a step works: its request, its folder, and the means to open what earlier steps made."""

    request: StepRequest
    folder: Path
    store: ArtifactStore
    plugins: Plugins
    progress: ReportProgress
    offline: bool = False

    def component(self, hook: str) -> Any:
        """The request's component with its options."""
        cls = self.plugins.find(hook, self.request.component).load()
        return cls(load_options(cls.Config, self.located(self.request.config)))

    def located(self, options: Mapping[str, Any]) -> Any:
        """Options in which places here stand for references and inputs."""
        references = {role: key for role, key in self.request.inputs.items() if role.startswith(MARK)}
        fetched = {role: str(self._fetched(key)) for role, key in references.items()}
        return replace_strings(options, fetched | self.request.paths)

    def _fetched(self, key: str) -> Path:
        """The folder that a resource was fetched into, or the file in it that is meant."""
        return Path(self.store.folder(key) / FETCHED, self.store.need(key).report.get("file", ""))

    def resource_context(self) -> ResourceContext:
        """For a resource that is resolved or fetched."""
        ask = partial(provided_token, self.plugins)
        unfinished = self.store.root / "unfinished" / self.request.key
        return ResourceContext(self.offline, self.progress, self.request.hf_token, ask, unfinished)

    def model(self, role: str) -> ModelHandle:
        """The model of an input artifact."""
        return self.store.read_model(self.request.inputs[role])

    def data(self, role: str) -> Dataset:
        """The prepared rows of an input artifact, opened with the container that made it."""
        manifest = self.store.need(self.request.inputs[role])
        cls: type[DataContainer] = self.plugins.find("hfopt_data_containers", manifest.component).load()
        options = replace_strings(manifest.config, self.request.paths)
        return cls(load_options(cls.Config, options)).open(self.store.folder(manifest.key))

    def open(self, handle: ModelHandle, settings: Mapping[str, Any] | None = None) -> Session:
        """Open a model for this step's accelerator and threads."""
        with_threads = {"threads": self.request.threads, **(settings or {})}
        return open_model(self.plugins, handle, self.request.accelerator, with_threads)

    def stopwatch(self) -> Stopwatch:
        """Times models for this step's accelerator."""
        return Stopwatch(self.request.accelerator, self.plugins.files, self.progress)


@cache
def provided_token(plugins: Plugins, hub: str) -> str | None:
    """The first token that a plugin has for a hub; each is asked once in this process."""
    providers: Iterator[TokenProvider] = (each.load()() for each in plugins.of_kind("hfopt_token_providers"))
    if token := next(filter(None, (each.token(hub) for each in providers)), None):
        learn(token)
    return token


def load_options(model: type[C], options: Mapping[str, Any]) -> C:
    """Options that were validated by the host, as their model again."""
    return model.model_validate_json(json.dumps(dict(options)))


def open_model(plugins: Plugins, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
    """Open a model with the loader of its type."""
    preload(plugins, handle.type)
    cls: type[ModelLoader] = plugins.find("hfopt_model_loaders", handle.type).load()
    return cls(load_options(cls.Config, handle.config)).open(handle, accelerator, settings)

"""A system whose workers find another ONNX Runtime than the host's: one that a folder holds."""

from __future__ import annotations

import sys

from pydantic import Field

from hfopt import Component, hookimpl
from hfopt.api.systems import SystemConfig
from hfopt.api.workers import ProcessWorker, WorkerSystem, environment


class FarRuntimeConfig(SystemConfig):
    packages: str = Field(description="The folder, as `pip install --target` makes it.")


class FarRuntime(WorkerSystem):
    Config = FarRuntimeConfig

    def start(self, step):
        given = {**environment(offline=self.context.offline), "PYTHONPATH": self.config.packages}
        return ProcessWorker([sys.executable], given, self.context)


@hookimpl
def hfopt_systems():
    return [Component("FarRuntime", f"{__name__}:FarRuntime", "workers with another ONNX Runtime")]

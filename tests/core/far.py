"""A system whose workers run with other packages than the host: what a folder holds comes first."""

from __future__ import annotations

import sys

from pydantic import Field

from hfopt import Component, hookimpl
from hfopt.api.systems import SystemConfig
from hfopt.api.workers import ProcessWorker, WorkerSystem, environment


class FarConfig(SystemConfig):
    packages: str = Field(description="The folder.")


class Far(WorkerSystem):
    Config = FarConfig

    def prepare(self, progress):
        progress(f"preparing {self.config.packages}", 1, 1)

    def start(self, step):
        given = {**environment(offline=self.context.offline), "PYTHONPATH": self.config.packages}
        return ProcessWorker([sys.executable], given, self.context)


@hookimpl
def hfopt_systems():
    return [Component("Far", f"{__name__}:Far", "workers with other packages")]

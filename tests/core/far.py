"""A system whose workers run with other packages than the host: what a folder holds comes first."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hfopt import Component, hookimpl
from hfopt.api.systems import SystemConfig
from hfopt.systems.local import LocalSystem


class FarConfig(SystemConfig):
    packages: str = Field(description="The folder.")


class Far(LocalSystem):
    Config = FarConfig
    answered_here: ClassVar = ()

    def prepare(self, progress):
        progress(f"preparing {self.config.packages}", 1, 1)

    def environment(self):
        return {**super().environment(), "PYTHONPATH": self.config.packages}


@hookimpl
def hfopt_systems():
    return [Component("Far", f"{__name__}:Far", "workers with other packages")]

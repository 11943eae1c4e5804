"""A system whose workers find another ONNX Runtime than the host's: one that a folder holds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hfopt import Component, hookimpl
from hfopt.api.systems import SystemConfig
from hfopt.systems.local import LocalSystem


class FarRuntimeConfig(SystemConfig):
    packages: str = Field(description="The folder, as `pip install --target` makes it.")


class FarRuntime(LocalSystem):
    Config = FarRuntimeConfig
    answered_here: ClassVar = ()

    def environment(self):
        return {**super().environment(), "PYTHONPATH": self.config.packages}


@hookimpl
def hfopt_systems():
    return [Component("FarRuntime", f"{__name__}:FarRuntime", "workers with another ONNX Runtime")]

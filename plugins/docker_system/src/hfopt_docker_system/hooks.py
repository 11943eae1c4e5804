"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_systems() -> list[Component]:
    return [Component("Docker", "hfopt_docker_system.system:Docker", "a container of Docker or Podman on this machine")]

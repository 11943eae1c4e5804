"""What the core itself offers through the same hooks as any plugin."""

from __future__ import annotations

from hfopt.base.component import Component, hookimpl


@hookimpl
def hfopt_systems() -> list[Component]:
    return [Component("LocalSystem", "hfopt.systems.local:LocalSystem", "A worker process on this interpreter")]

"""What the core itself offers through the same hooks as any plugin."""

from __future__ import annotations

from hfopt.base.component import Component, hookimpl


@hookimpl
def hfopt_systems() -> list[Component]:
    return [Component("LocalSystem", "hfopt.systems.local:LocalSystem", "A worker process on this interpreter")]


@hookimpl
def hfopt_search_algorithms() -> list[Component]:
    return [
        Component("exhaustive", "hfopt.engine.algorithms:Exhaustive", "Every point, in order"),
        Component("random", "hfopt.engine.algorithms:Random", "Points drawn at random, each at most once"),
    ]

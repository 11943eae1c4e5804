"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_systems() -> list[Component]:
    return [
        Component(
            "PythonEnvironment",
            "hfopt_python_environment.system:PythonEnvironment",
            "A worker process in another Python environment, yours or one that hfopt makes",
        )
    ]

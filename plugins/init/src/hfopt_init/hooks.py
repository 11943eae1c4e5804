"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_commands() -> list[Component]:
    return [Component("init", "hfopt_init.command:Init", "write a config for a model and a data file")]


@hookimpl
def hfopt_pass_choosers() -> list[Component]:
    return [
        Component(
            "auto_optimizer", "hfopt_init.choosing:AutoOptimizer", "conversion, fusion, fewer bits and tuning in turn"
        )
    ]

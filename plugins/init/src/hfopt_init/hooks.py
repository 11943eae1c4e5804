"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_commands() -> list[Component]:
    return [Component("init", "hfopt_init.command:Init", "write a config for a model and a data file")]

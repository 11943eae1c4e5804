"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_config_dialects() -> list[Component]:
    return [
        Component("olive", "hfopt_olive_configs.dialect:Olive", "entries in place of names, functions in user_config")
    ]

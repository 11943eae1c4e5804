"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_search_algorithms() -> list[Component]:
    return [Component("tpe", "hfopt_optuna_search.tpe:Tpe", "Optuna's tree-structured Parzen estimator")]

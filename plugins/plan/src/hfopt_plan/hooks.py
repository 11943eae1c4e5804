"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_commands() -> list[Component]:
    return [Component("plan", "hfopt_plan.command:PlanCommand", "say what a run would do, without running it")]

"""What a test of a plugin may use of the core besides `hfopt` and `hfopt.api`. Nothing of the core imports it."""

from __future__ import annotations

from typing import Any

from hfopt.api.config import ConfigContext
from hfopt.api.model import ModelHandle
from hfopt.api.parity import Parity
from hfopt.api.passes import Pass, PassContext, PassResult
from hfopt.base.errors import Place, Problem
from hfopt.config import problems as _problems
from hfopt.config.problems import M, Mistakes
from hfopt.discovery.plugins import Plugins
from hfopt.measuring.figures import scored
from hfopt.worker.steps.transform import applied
from hfopt.worker.stopwatch import Stopwatch

__all__ = ["Plugins", "Stopwatch", "run_compared", "scored", "validate"]


def run_compared(work: Pass, model: ModelHandle, context: PassContext, parity: Parity | None) -> PassResult:
    """Run a pass and compare its model with the one that it got, as a pass step does: of components each.

    :param parity: None: don't compare
    """
    return applied(work, type(work).__name__, model, context, parity)


def validate(
    model: type[M], value: Any, place: Place, problems: list[Problem], context: ConfigContext | None = None
) -> M | None:
    """The value as an instance of `model`, or None with every mistake added to `problems`.

    :param place: where the value stands in the config
    """
    try:
        return _problems.validate(model, value, place, context)
    except Mistakes as mistakes:
        problems += mistakes.args
        return None

"""What a test of a plugin may use of the core besides `hfopt` and `hfopt.api`. Nothing of the core imports it."""

from __future__ import annotations

from hfopt.api.model import ModelHandle
from hfopt.api.parity import Parity
from hfopt.api.passes import Pass, PassContext, PassResult
from hfopt.config.problems import validate
from hfopt.discovery.plugins import Plugins
from hfopt.measuring.parity import compared
from hfopt.worker.stopwatch import Stopwatch

__all__ = ["Plugins", "Stopwatch", "run_compared", "validate"]


def run_compared(work: Pass, model: ModelHandle, context: PassContext, parity: Parity | None) -> PassResult:
    """Run a pass and compare its model with the one that it got, as a pass step does.

    :param parity: None: don't compare
    """
    return compared(work.run(model, context), model, context, parity)

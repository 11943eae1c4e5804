"""What a test of a plugin may use of the core besides `hfopt` and `hfopt.api`. Nothing of the core imports it."""

from __future__ import annotations

from hfopt.config.problems import validate
from hfopt.discovery.plugins import Plugins
from hfopt.measuring.parity import run_compared
from hfopt.worker.stopwatch import Stopwatch

__all__ = ["Plugins", "Stopwatch", "run_compared", "validate"]

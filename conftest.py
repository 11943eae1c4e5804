"""Fixtures for every test of the workspace."""

from __future__ import annotations

import signal

pytest_plugins = ["hfopt.testing.fixtures"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a script starts in the background. What tests start would inherit it, and not be interruptible.
    signal.signal(signal.SIGINT, signal.default_int_handler)

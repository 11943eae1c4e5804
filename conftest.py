"""Fixtures for every test of the workspace."""

from __future__ import annotations

import signal

pytest_plugins = ["hfopt.testing.fixtures"]

# A script's background job ignores interrupts, and below nohup hangups are ignored. What tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

"""Fixtures for every test of the workspace."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from hfopt.base.processes import disable_telemetry

disable_telemetry()  # of ONNX Runtime in tests themselves, too
hypothesis.settings.register_profile("untimed", deadline=None)  # how long an example takes says nothing of the code
hypothesis.settings.load_profile("untimed")
pytest_plugins = ["hfopt_hf_hub.testing.fixtures"]

# A script's background job ignores interrupts, and below nohup hangups are ignored. What tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests wait neither for those of another process nor for what else runs on this machine."""
    os.environ["HFOPT_LOCKS"] = str(tmp_path_factory.mktemp("locks"))
    yield
    del os.environ["HFOPT_LOCKS"]

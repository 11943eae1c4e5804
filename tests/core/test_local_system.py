"""LocalSystem does what every system does."""

from __future__ import annotations

import pytest

from hfopt.testing.systems import LOCAL, SystemConformance


class TestLocalSystem(SystemConformance):
    @pytest.fixture
    def entry(self):
        return LOCAL

"""Docker does what every system does."""

from __future__ import annotations

import pytest

from hfopt.testing.systems import SystemConformance
from hfopt_docker_system.container import OWNER


@pytest.mark.engine
@pytest.mark.timeout(300)
class TestDocker(SystemConformance):
    @pytest.fixture
    def entry(self, box):
        return box

    @pytest.fixture(autouse=True)
    def _asks(self, engine):
        self.engine = engine

    def left_over(self, project):
        running = self.engine.containers.list(filters={"label": OWNER}, ignore_removed=True)
        return [each.id for each in running if str(project.cache) in str(each.attrs["Mounts"])]

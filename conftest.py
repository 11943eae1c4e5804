"""Fixtures for every test, those that plugin authors get too."""

pytest_plugins = ["hfopt.testing.fixtures"]

"""For tests of hfopt and of plugins: nothing of the framework imports it.

``pytest_plugins = ["hfopt.testing.fixtures"]`` in a ``conftest.py`` offers the fixtures.
"""

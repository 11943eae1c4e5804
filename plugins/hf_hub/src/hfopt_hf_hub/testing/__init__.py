"""A Hugging Face hub on loopback, for tests: nothing else of this plugin imports it.

``pytest_plugins = ["hfopt_hf_hub.testing.fixtures"]`` in a ``conftest.py`` offers the fixture ``hub``.
"""

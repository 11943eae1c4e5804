"""A Hugging Face hub on loopback, for tests; the plugin itself does not import it.

``pytest_plugins = ["hfopt_hf_hub.testing.fixtures"]`` in a ``conftest.py`` offers the fixture ``hub``.
"""

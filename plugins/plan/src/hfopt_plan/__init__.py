"""The command ``hfopt plan``."""

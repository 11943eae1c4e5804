"""The command ``hfopt init``."""

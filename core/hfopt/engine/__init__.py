"""Drives a run, and says what it came to."""

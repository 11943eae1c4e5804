"""The core's own systems."""

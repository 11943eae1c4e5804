"""How sizes, counts and near misses are worded, for plugins' reports and errors."""

from __future__ import annotations

from hfopt.base.text import counts, did_you_mean, duration, nearest, size

__all__ = ["counts", "did_you_mean", "duration", "nearest", "size"]

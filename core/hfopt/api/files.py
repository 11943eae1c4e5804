"""How files are written so that no half of one is ever seen, for plugins too."""

from __future__ import annotations

from hfopt.base.files import replacing, write_atomically

__all__ = ["replacing", "write_atomically"]

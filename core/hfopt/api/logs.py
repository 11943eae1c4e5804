"""How much workers log: levels cross to them, and to the processes that they start, in the environment.

Levels are ONNX Runtime's and Olive's: 0 everything, 1 information, 2 warnings, 3 errors, 4 what is fatal.
"""

from __future__ import annotations

import os

OWN, ORT, ORT_PYTHON = "HFOPT_LOG_LEVEL", "HFOPT_ORT_LOG_LEVEL", "HFOPT_ORT_PY_LOG_LEVEL"


def environment_for(own: int | None, ort: int | None, ort_python: int | None) -> dict[str, str]:
    """What the config says, for workers."""
    levels = {OWN: own, ORT: ort, ORT_PYTHON: ort_python}
    return {name: str(level) for name, level in levels.items() if level is not None}


def level(name: str, default: int) -> int:
    """The level of that name in this process."""
    written = os.environ.get(name, "")
    return int(written) if written.isdecimal() else default


def python_level(name: str, default: int) -> int:
    """The same as the logging module counts: 10 everything, 20 information, up to 50."""
    return 10 + 10 * min(4, level(name, default))

"""What a child process gets that runs another Python than this one."""

from __future__ import annotations

from collections.abc import Mapping

_OF_THIS_PYTHON = ("PYTHON", "CONDA", "_CONDA", "VIRTUAL_ENV")


def without_python(given: Mapping[str, str]) -> dict[str, str]:
    """Variables without those that are for this Python, and without this user's packages."""
    kept = {name: value for name, value in given.items() if not name.startswith(_OF_THIS_PYTHON)}
    return {**kept, "PYTHONNOUSERSITE": "1"}

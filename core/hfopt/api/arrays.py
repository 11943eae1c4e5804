"""Types of arrays, for annotations: importing them does not import NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

__all__ = ["Array", "Feeds", "Floats", "Integers"]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Feeds = Mapping[str, Array]
else:
    Array = Floats = Integers = Feeds = Any

"""What a step's key is made of.

A key is a recipe: equal keys mean equal results, and it is known before the step has run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

SCHEMA = 2


def key_of(recipe: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a recipe."""
    text = json.dumps({"schema": SCHEMA, **recipe}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()

"""pytest fixtures for plugin authors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hfopt_hf_hub.testing.hub import Hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """An empty Hugging Face hub on loopback, with a folder for its clients."""
    with Hub(tmp_path / "huggingface") as served:
        yield served

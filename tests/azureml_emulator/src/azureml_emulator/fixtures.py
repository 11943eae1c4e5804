"""Fixtures for every test of the workspace: emulators, started once for each kind of storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator
    from azureml_emulator.workspace import Storage


@pytest.fixture(scope="session")
def azureml_emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Storage], Emulator]]:
    """A function from a kind of storage (``sas``, ``key``, ``identity``) to the session's emulator with it.

    Azurite is a program of npm's, which no package of Python's brings: without it a test is skipped, and says how to
    get it. ``make test-systems`` gets it.
    """
    from azureml_emulator.azurite import NotInstalled
    from azureml_emulator.emulator import Emulator

    running: dict[Storage, Emulator] = {}
    with ExitStack() as stack:

        def of(storage: Storage) -> Emulator:
            if storage not in running:
                try:
                    folder = tmp_path_factory.mktemp(f"azureml-{storage}")
                    running[storage] = stack.enter_context(Emulator(folder, storage))
                except NotInstalled as missing:
                    pytest.skip(f"no emulator of AzureML: {missing}")
            return running[storage]

        yield of


@pytest.fixture
def azureml_emulator(
    request: pytest.FixtureRequest, azureml_emulators: Callable[[Storage], Emulator]
) -> Iterator[Emulator]:
    """An emulator as new.

    Its kind of storage is ``sas``, or the test's indirect parameter. After the test, nothing must have been asked that
    it does not know, and no other host.
    """
    emulator = azureml_emulators(getattr(request, "param", "sas"))
    emulator.reset()
    yield emulator
    assert emulator.unknown == []
    assert emulator.refused == []

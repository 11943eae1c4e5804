"""Commands that plugins add to ``hfopt``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace

OWN = ("run", "validate", "plugins", "runs", "cache", "worker")
"""Names that plugins can't have, as hfopt has them."""


class Command(ABC):
    """``hfopt NAME``: called in the host process. Its summary is the component's; ``--verbose`` is there already."""

    @classmethod
    @abstractmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Say what the command takes."""

    @classmethod
    @abstractmethod
    def execute(cls, args: Namespace) -> int:
        """Do it.

        :return: the exit code: 0 done, 1 no usable result, 2 usage, 3 something that it needs is missing
        :raises HfoptError: it can't be done; printed without a traceback, and its ``exit_code`` is returned
        """

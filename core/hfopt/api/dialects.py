"""Dialects: configs as another tool writes them, said in hfopt's own words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfopt.base.errors import Place, Problem
from hfopt.base.values import dotted

__all__ = ["Dialect", "Place", "Translation", "dotted"]


@dataclass(frozen=True)
class Translation:
    """A config in hfopt's own words.

    :param config: what is left, with names in place of the entries
    :param entries: by section (``data_configs``, ``evaluators``, ``systems``) what was written out elsewhere, by its
        place. A data config has its name in itself; the others are called by their place, as `dotted` has it
    :param derived: the places of data configs that repeat others: a mistake in both is told once
    :param problems: what can't be acted on
    :param notices: what is left out, in sentences
    """

    config: dict[str, Any]
    entries: Mapping[str, Mapping[Place, Any]] = field(default_factory=dict)
    derived: Collection[Place] = ()
    problems: Sequence[Problem] = ()
    notices: Sequence[str] = ()


class Dialect(ABC):
    """A way of writing configs. In the host, for every config, before anything of it is checked."""

    @staticmethod
    @abstractmethod
    def translate(config: dict[str, Any]) -> Translation:
        """A config without what only this dialect says.

        :param config: as it was read, of any shape; is not changed. What the dialect does not know stays
        """

    @staticmethod
    def unavailable(hook: str, name: str) -> str | None:
        """The proper spelling of a component that the other tool has and hfopt does not; None if it is none of those.

        :param hook: the hook that would declare it
        :param name: as the user wrote it
        """
        return None

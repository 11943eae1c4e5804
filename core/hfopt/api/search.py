"""Search: a space of choices, and the algorithms that say which point of it is tried next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hfopt.api.config import Configured

Point = Mapping[str, int]
"""What is chosen: of each dimension, by its name, which of its values."""


@dataclass(frozen=True)
class Dimension:
    """One choice.

    :param name: its place in the config: ``passes.quantization.weight_type``
    :param values: what can be chosen, as JSON, in the order in which it should be tried
    """

    name: str
    values: tuple[Any, ...]


class Space(Protocol):
    """All that can be tried. What there is to choose may depend on what has been chosen before."""

    def next(self, chosen: Point) -> Dimension | None:
        """What is to be chosen now; None: nothing is left."""

    def valid(self, point: Point) -> bool:
        """Whether the choices of a whole point go together."""


def points(space: Space, chosen: Point | None = None) -> Iterator[Point]:
    """Every valid point that agrees with what is chosen: the first values first, the last dimension fastest."""
    chosen = chosen or {}
    dimension = space.next(chosen)
    if dimension is not None:
        for number in range(len(dimension.values)):
            yield from points(space, {**chosen, dimension.name: number})
    elif space.valid(chosen):
        yield chosen


@dataclass(frozen=True)
class Trial:
    """A point that has been tried.

    :param objectives: what was measured of it, each so that less is better, and always the same ones in the same order:
        of accuracy, speed and size the figure of the highest priority, where there is one; None: it failed
    :param goals_met: None: there are no goals
    :param goals_missed_by: how far all goals together are missed, each as a part of its limit: 0.02 for 1.02 MB where 1
        MB was the goal; None: there are none, or it failed
    :param dropped: it was given up as a clear loser, and so has no objectives
    """

    point: Point
    objectives: tuple[float, ...] | None
    goals_met: bool | None
    goals_missed_by: float | None = None
    dropped: bool = False


class SearchAlgorithm(Configured):
    """Proposes the points of one search, one after another.

    It must propose the same points after the same trials: so does a search that goes on after it was killed find its
    finished trials in the cache, and is the same as one that was not.
    """

    def __init__(self, config: Any, space: Space) -> None:
        super().__init__(config)
        self.space = space

    @abstractmethod
    def propose(self, last: Trial | None) -> Point | None:
        """The next point, a valid one that it has not proposed before.

        :param last: what came of the point that it proposed before; None at the start
        :return: None: the search has come to its end
        """

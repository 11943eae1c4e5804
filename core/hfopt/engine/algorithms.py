"""Search algorithms that need nothing but the standard library."""

from __future__ import annotations

import random
from typing import Any, ClassVar

from pydantic import Field

from hfopt.api.config import Config
from hfopt.api.search import Point, SearchAlgorithm, Space, Trial, points

MOST_DRAWN = 100_000
"""Points from which some are drawn at random; of a larger space the first so many."""


class ExhaustiveConfig(Config):
    """Options of ``exhaustive``: it has none."""


class Exhaustive(SearchAlgorithm):
    """Every point, the last dimension fastest."""

    Config: ClassVar[type[Config]] = ExhaustiveConfig

    def __init__(self, config: Any, space: Space) -> None:
        super().__init__(config, space)
        self._left = points(space)

    def propose(self, last: Trial | None) -> Point | None:
        return next(self._left, None)


class RandomConfig(Config):
    """Options of ``random``."""

    num_samples: int = Field(1, ge=1, description="Points to try.")
    seed: int = Field(1, description="Of the generator that draws them.")
    with_replacement: bool = Field(False, description="Accepted: a point that is drawn again has its result already.")


class Random(SearchAlgorithm):
    """Points drawn at random, each at most once."""

    Config: ClassVar[type[Config]] = RandomConfig

    def __init__(self, config: Any, space: Space) -> None:
        super().__init__(config, space)
        every = [point for _, point in zip(range(MOST_DRAWN), points(space), strict=False)]
        drawn = random.Random(config.seed)  # noqa: S311 - not for secrets
        self._left = iter(drawn.sample(every, min(config.num_samples, len(every))))

    def propose(self, last: Trial | None) -> Point | None:
        return next(self._left, None)

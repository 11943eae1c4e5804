"""The tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023), by Optuna."""

from __future__ import annotations

import random
import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hfopt import Config, SearchAlgorithm
from hfopt.api.search import Point, Space, Trial, points

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

MOST_ASKED = 100
"""Times that Optuna is asked for a point that has not been tried; then one of those is drawn."""
MOST_DRAWN = 10_000
"""Points of which one is drawn."""
MOST_RANDOM = 10
"""Points that are drawn before Optuna looks at what has come of others."""


class TpeConfig(Config):
    """Options of ``tpe``."""

    num_samples: int = Field(1, ge=1, description="Points to try.")
    seed: int = Field(1, description="Of the sampler.")
    multivariate: bool = Field(True, description="Consider how dimensions go together.")
    group: bool = Field(True, description="Consider together what is chosen together; goes with multivariate alone.")

    def ignored(self) -> dict[str, str]:
        return {} if self.multivariate or not self.group else {"group": "it goes with multivariate alone"}


class Tpe(SearchAlgorithm):
    """Points that are likely to be good, by what came of those before; each at most once.

    The first one has the first values, those up to a quarter of all are drawn at random, and the others by Optuna. All
    objectives of a trial count: with several, good is what lies near the Pareto front. What misses goals is worse than
    what meets them, by how far it misses them (Watanabe and Hutter 2022, c-TPE).
    """

    Config: ClassVar[type[Config]] = TpeConfig
    config: TpeConfig

    def __init__(self, config: Any, space: Space) -> None:
        super().__init__(config, space)
        self._trials: list[Trial] = []

    def propose(self, last: Trial | None) -> Point | None:
        from optuna.trial import TrialState

        if last is not None:
            self._trials.append(last)
        if len(self._trials) == self.config.num_samples:
            return None
        if not self._trials:
            return next(points(self.space), None)
        tried = [dict(each.point) for each in self._trials]
        study = self._study()
        for _ in range(MOST_ASKED):
            asked = study.ask()
            point = self._suggested(asked)
            if point not in tried and self.space.valid(point):
                return point
            study.tell(asked, state=TrialState.FAIL)
        left = [each for each in islice(points(self.space), MOST_DRAWN) if each not in tried]
        return random.Random(self.config.seed + len(tried)).choice(left) if left else None  # noqa: S311 - no secret

    def _study(self) -> optuna.Study:
        """A study of all trials. Its sampler's seed is the number of the next one."""
        import optuna
        from optuna.trial import TrialState, create_trial

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        config, number = self.config, len(self._trials)
        count = next((len(each.objectives) for each in self._trials if each.objectives is not None), 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=config.seed + number,
                multivariate=config.multivariate,
                group=config.group and config.multivariate,
                n_startup_trials=max(1, min(MOST_RANDOM, config.num_samples // 4)),
            )
        study = optuna.create_study(directions=["minimize"] * count, sampler=sampler)
        for trial in self._trials:
            succeeded = trial.objectives is not None and len(trial.objectives) == count
            without = TrialState.PRUNED if trial.dropped else TrialState.FAIL
            study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE if succeeded else without,
                    values=trial.objectives if succeeded else None,
                    params=dict(trial.point),
                    distributions=self._distributions(trial.point),
                    constraints={"goals": trial.goals_missed_by or 0.0},
                )
            )
        return study

    def _distributions(self, point: Point) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution

        found: dict[str, BaseDistribution] = {}
        chosen: dict[str, int] = {}
        while (dimension := self.space.next(chosen)) is not None:
            chosen[dimension.name] = point[dimension.name]
            found[dimension.name] = CategoricalDistribution(range(len(dimension.values)))
        return found

    def _suggested(self, asked: optuna.trial.Trial) -> dict[str, int]:
        point: dict[str, int] = {}
        while (dimension := self.space.next(point)) is not None:
            point[dimension.name] = asked.suggest_categorical(dimension.name, range(len(dimension.values)))
        return point

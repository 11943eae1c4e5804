"""The algorithm tpe on spaces whose best point is known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfopt.api.search import Dimension, Trial, points
from hfopt_optuna_search.tpe import Tpe, TpeConfig


@dataclass(frozen=True)
class Grid:
    """Some dimensions; the last one is there only where the first one's first value is chosen."""

    sizes: tuple[int, ...]

    def next(self, chosen):
        wanted = self.sizes if chosen.get("d0", 0) == 0 else self.sizes[:-1]
        names = (f"d{number}" for number in range(len(wanted)))
        return next(
            (Dimension(n, tuple(range(s))) for n, s in zip(names, wanted, strict=True) if n not in chosen), None
        )

    def valid(self, point):
        return sum(point.values()) != 1


def search(space, objectives, **options):
    """All points that are proposed, in order."""
    algorithm, proposed, last = Tpe(TpeConfig(**options), space), [], None
    while (point := algorithm.propose(last)) is not None:
        proposed.append(point)
        last = Trial(point, objectives(point), None)
    return proposed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_finds_what_meets_the_goals_though_its_figures_are_the_worst(seed):
    """Eight of 38 points meet them: those with the last value of the first dimension, which is the worst figure."""
    algorithm, last, meeting = Tpe(TpeConfig(num_samples=20, seed=seed), Grid((4, 8, 2))), None, 0
    while (point := algorithm.propose(last)) is not None:
        missed = (3 - point["d0"]) / 10
        meeting += not missed
        last = Trial(point, (float(point["d0"]),), goals_met=not missed, goals_missed_by=missed)

    assert meeting >= 6, "20 points drawn at random have about four of them"


def test_the_first_point_has_the_first_values():
    first, *_ = search(Grid((4, 4)), far, num_samples=12, seed=5)

    assert first == {"d0": 0, "d1": 0}


def far(point):
    """Squared distance from the point whose values are all 3."""
    return (float(sum((value - 3) ** 2 for value in point.values())),)


def test_it_finds_the_best_of_many_points_by_trying_few():
    space, best = Grid((6, 6, 6, 6)), {"d0": 3, "d1": 3, "d2": 3}
    assert len([*points(space)]) == 392

    found = [best in search(space, far, num_samples=40, seed=seed) for seed in range(5)]

    assert sum(found) >= 4, "a tenth of the points, drawn at random, has it once in ten times"


@pytest.mark.parametrize("objectives", [far, lambda point: (*far(point), float(point["d0"])), lambda point: None])
def test_the_same_seed_proposes_the_same_points_each_at_most_once(objectives):
    space = Grid((3, 4, 2))

    proposed = search(space, objectives, num_samples=12, seed=3)

    assert proposed == search(space, objectives, num_samples=12, seed=3)
    assert len({tuple(each.items()) for each in proposed}) == len(proposed) == 12


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 5))
def test_more_samples_than_points_are_all_valid_points(sizes, seed):
    space = Grid(tuple(sizes))

    proposed = search(space, far, num_samples=200, seed=seed)

    every = [tuple(sorted(each.items())) for each in points(space)]
    assert sorted(tuple(sorted(each.items())) for each in proposed) == sorted(every)


def test_what_failed_is_no_objective():
    space = Grid((6, 6, 6))

    proposed = search(space, lambda point: None if point["d0"] > 2 else far(point), num_samples=40, seed=1)

    assert sum(point["d0"] > 2 for point in proposed[-15:]) < 8


def test_optuna_is_told_what_was_dropped_early_as_pruned():
    space = Grid((3, 3))
    algorithm, last = Tpe(TpeConfig(num_samples=3, seed=1), space), None
    for told in ({"objectives": (1.0,)}, {"objectives": None}, {"objectives": None, "dropped": True}):
        point = algorithm.propose(last)
        last = Trial(point, goals_met=None, **told)
    assert algorithm.propose(last) is None

    assert [each.state.name for each in algorithm._study().trials] == ["COMPLETE", "FAIL", "PRUNED"]

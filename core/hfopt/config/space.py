"""Passes as configured, and the space of all that a search may choose of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hfopt.api.parity import Parity
from hfopt.api.search import Dimension, Point
from hfopt.config.checker import ConfiguredComponent
from hfopt.config.figures import Figure

FLOW = "pass_flows"
"""The dimension that chooses one of several flows."""


@dataclass(frozen=True)
class ConfiguredPass:
    """A pass with all its options.

    :param host: the system that runs it
    :param figures: what its model is measured by; None: nothing, unless it is the last
    :param output_name: where in the output folder its model is saved too
    :param parity: how its model's outputs are compared with those of the model before; None: they are not
    """

    component: ConfiguredComponent
    host: str
    figures: tuple[Figure, ...] | None = None
    output_name: str | None = None
    parity: Parity | None = None


@dataclass(frozen=True)
class Variant:
    """One way of doing a pass.

    :param kind: of pass, for people; None: it is left out
    :param dimensions: its options that have several values
    :param choices: by which value of each: the pass with these. Those that don't go together are missing.
    """

    kind: str | None
    dimensions: tuple[Dimension, ...]
    choices: Mapping[tuple[int, ...], ConfiguredPass | None]

    @property
    def first(self) -> ConfiguredPass | None:
        """The pass with the first values that go together."""
        return next(iter(self.choices.values()))


LEFT_OUT = Variant(None, (), {(): None})


@dataclass(frozen=True)
class Stage:
    """An entry of ``passes``: one pass, or a list of those that may stand there."""

    name: str
    variants: tuple[Variant, ...]

    @classmethod
    def fixed(cls, name: str, entry: ConfiguredPass | None) -> Stage:
        """One that has no choice."""
        return cls(name, (Variant(None, (), {(): entry}),))

    @cached_property
    def dimension(self) -> Dimension:
        """Which pass stands there."""
        return Dimension(f"passes.{self.name}", tuple(each.kind for each in self.variants))

    def next(self, chosen: Point) -> Dimension | None:
        """What is to be chosen of it now."""
        if len(self.variants) > 1 and self.dimension.name not in chosen:
            return self.dimension
        return next((each for each in self._variant(chosen).dimensions if each.name not in chosen), None)

    def has(self, point: Point) -> bool:
        """Whether the choices go together."""
        return self._numbers(point) in self._variant(point).choices

    def choice(self, point: Point) -> ConfiguredPass | None:
        """The pass that was chosen; None: it is left out."""
        return self._variant(point).choices[self._numbers(point)]

    def _variant(self, chosen: Point) -> Variant:
        return self.variants[chosen.get(self.dimension.name, 0)]

    def _numbers(self, point: Point) -> tuple[int, ...]:
        return tuple(point[each.name] for each in self._variant(point).dimensions)


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose: a `hfopt.api.search.Space`."""

    flows: tuple[tuple[Stage, ...], ...]

    def next(self, chosen: Point) -> Dimension | None:
        """What is to be chosen now."""
        if len(self.flows) > 1 and FLOW not in chosen:
            return Dimension(FLOW, tuple(" -> ".join(stage.name for stage in flow) for flow in self.flows))
        return next(filter(None, (stage.next(chosen) for stage in self._flow(chosen))), None)

    def valid(self, point: Point) -> bool:
        """Whether its choices go together, and leave at least one pass."""
        flow = self._flow(point)
        return all(stage.has(point) for stage in flow) and any(stage.choice(point) is not None for stage in flow)

    def passes(self, point: Point) -> dict[str, ConfiguredPass]:
        """The passes of a valid point, by name, in order."""
        chosen = {stage.name: stage.choice(point) for stage in self._flow(point)}
        return {name: entry for name, entry in chosen.items() if entry is not None}

    def values(self, point: Point) -> dict[str, Any]:
        """What a point chooses, for people: the values by dimension."""
        found: dict[str, Any] = {}
        chosen: dict[str, int] = {}
        while (dimension := self.next(chosen)) is not None:
            chosen[dimension.name] = point[dimension.name]
            found[dimension.name] = dimension.values[point[dimension.name]]
        return found

    def every(self) -> Iterator[tuple[str, ConfiguredPass]]:
        """Each pass that may be chosen, with its first options."""
        for stage in {stage.name: stage for flow in self.flows for stage in flow}.values():
            yield from ((stage.name, each.first) for each in stage.variants if each.first is not None)

    def _flow(self, chosen: Point) -> tuple[Stage, ...]:
        return self.flows[chosen.get(FLOW, 0)]

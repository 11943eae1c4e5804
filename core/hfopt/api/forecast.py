"""What a model is expected to be before it is there: loaders and passes say so, and ``hfopt plan`` adds up."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Weights = Mapping[str, tuple[float, float]]
"""How many numbers a model has, and the bits that each takes, by kind.

``matrix``: of linear layers; ``attention``: of those that make queries, keys and values, ``fused attention``: where a
fused operator does; ``head``: of linear layers in none of a transformer's numbered blocks; ``table``: of embeddings;
``other`` and what no pass knows: what is never quantized. ``blocks`` are no numbers, but how many of these a model has.
"""
MEGABYTE = 1_000_000


def with_bits(weights: Weights, bits: float, kinds: Collection[str] | None = None) -> Weights:
    """The same numbers, some kinds of them, or all, in so many bits each."""
    return {kind: (count, bits if kinds is None or kind in kinds else had) for kind, (count, had) in weights.items()}

"""What a run would do: its steps, its candidates, their sizes, the memory and the disk that they take."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import hfopt
from hfopt.api.forecast import MEGABYTE, Weights
from hfopt.api.search import points

MOST_CANDIDATES = 1_000
"""Of a search that are looked at; of a larger space the first so many."""
WORKER = 70 * MEGABYTE
"""Of memory that a worker takes before it has imported anything of a plugin's."""
CERTAIN = 0.85
"""How much of an expected size is certain: forecasts are right within 15 %."""


@dataclass(frozen=True)
class Made:
    """A model that would be made.

    :param name: of the pass
    :param weights: None: they can't be told
    :param peak_bytes: memory that making it takes, all libraries of the passes before it included; None: likewise
    """

    name: str
    kind: str
    system: str
    weights: Weights | None
    peak_bytes: int | None

    @property
    def size_bytes(self) -> int | None:
        return None if self.weights is None else size_of(self.weights)


@dataclass(frozen=True)
class Outlook:
    """What a run would do.

    :param steps: name, kind, component, system, and whether the cache has it (None: not known)
    :param tried: how many candidates there are at most, on each accelerator
    :param candidates: each by what makes it, with what a search chooses
    :param needed_bytes: of disk; None: not known
    :param free_bytes: where the cache is
    :param notices: of the config, as ``hfopt validate`` tells them
    """

    steps: Sequence[Mapping[str, Any]]
    input_model: Made
    tried: int
    candidates: Sequence[tuple[Mapping[str, Any], Sequence[Made]]]
    needed_bytes: int | None
    free_bytes: int
    warnings: Sequence[str]
    notices: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """As ``hfopt plan --json`` prints it."""
        return {
            "steps": list(self.steps),
            "input_model": _json(self.input_model),
            "tried": self.tried,
            "candidates": [
                {"choices": dict(choices), "passes": [_json(each) for each in made], "size_bytes": made[-1].size_bytes}
                for choices, made in self.candidates
            ],
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "warnings": list(self.warnings),
            "notices": list(self.notices),
        }


def look_ahead(config: Path | str | dict[str, Any], plugin_files: Sequence[Path] = ()) -> Outlook:
    """What a run of a config would do.

    :raises ConfigError: every mistake in the config
    """
    plan = hfopt.plan(config, plugin_files=plugin_files)
    settings, cached = plan.config, hfopt.cached(plan, plugin_files=plugin_files)
    steps = [
        {
            "name": step.name,
            "kind": step.kind,
            "component": step.component,
            "system": step.system,
            "accelerator": step.accelerator.execution_provider,
            "cached": cached[step],
        }
        for step in plan.steps()
    ]
    model = settings.input_model
    known = model.cls(model.config).forecast() if not model.resources else None
    first = _made("input_model", model, settings.host, known, known, {"worker": WORKER})
    found, tried = _candidates(settings)
    done = {step["name"] for step in steps if step["cached"]}
    missing = {step["name"] for step in steps} - done
    read = [each.cls for name, each in settings.data.items() if f"data {name}" in missing]
    reading = {library: taken for each in read for library, taken in each.memory.items()}
    candidates = [(choices, list(_chain(first, model.cls, passes, reading, done))) for choices, passes in found]
    needed = _disk(candidates, done)
    free = shutil.disk_usage(_there(Path(settings.engine.cache_dir).absolute())).free
    warnings = list(_warnings(first, candidates, needed, free, bool(model.resources)))
    return Outlook(steps, first, tried, candidates, needed, free, warnings, settings.notices)


def _candidates(settings: Any) -> tuple[list[tuple[Mapping[str, Any], Mapping[str, Any]]], int]:
    """The passes of each candidate, and how many will be tried; without a search there is one."""
    if settings.search is None:
        return [({}, settings.passes)], 1
    search = settings.search
    every = list(islice(points(search.space), MOST_CANDIDATES))
    limits = (len(every), search.section.max_iter, getattr(search.algorithm.config, "num_samples", None))
    return [(search.space.values(point), search.space.passes(point)) for point in every], min(filter(None, limits))


def _chain(
    first: Made, loader: Any, passes: Mapping[str, Any], reading: Mapping[str, float], done: Collection[str]
) -> Iterator[Made]:
    """The models that passes make one after another, in one worker: what it has imported stays in its memory.

    :param reading: the libraries that read rows, if any are read
    :param done: names of steps that the cache has: they import nothing
    """
    before, libraries = first, dict[str, float]({"worker": WORKER, **reading})
    libraries |= {} if first.name in done else loader.memory
    for name, entry in passes.items():
        chosen, had = entry.component, before.weights
        weights = None if had is None else chosen.cls(chosen.config).forecast(had)
        before = _made(name, chosen, entry.host, had, weights, libraries)
        libraries |= {} if name in done else chosen.cls.memory
        yield before


def _made(
    name: str, chosen: Any, system: str, before: Weights | None, after: Weights | None, libraries: Mapping[str, float]
) -> Made:
    peak = None
    if before is not None and after is not None:
        taken = {**libraries, **chosen.cls.memory}
        copies = taken.pop("copies", 1)
        peak = round(sum(taken.values()) + copies * max(size_of(before), size_of(after)))
    return Made(name, chosen.registered.component.name, system, after, peak)


def size_of(weights: Weights) -> int:
    """Bytes of the files that hold them."""
    return round(sum(count * bits for count, bits in weights.values()) / 8)


def _disk(candidates: Sequence[tuple[Mapping[str, Any], Sequence[Made]]], cached: Collection[str]) -> int | None:
    """Bytes that a run writes: every model that the cache has not, each once, and the copy of one in best/."""
    made = {
        (tuple(sorted(map(repr, choices.items()))) if choices else (), each.name): each.size_bytes
        for choices, chain in candidates
        for each in chain
        if each.name not in cached
    }
    best = [chain[-1].size_bytes for _, chain in candidates]
    if None in made.values() or None in best:
        return None
    return sum(size for size in made.values() if size) + max((size for size in best if size), default=0)


def _warnings(
    first: Made,
    candidates: Sequence[tuple[Mapping[str, Any], Sequence[Made]]],
    needed: int | None,
    free: int,
    referred: bool,
) -> Iterator[str]:
    if first.weights is None:
        why = "it lies elsewhere, and plan makes no request" if referred else "its files do not tell beforehand"
        yield f"sizes, memory and disk are not known: {why}"
    if needed is not None and needed > free:
        yield f"a run may write {needed:,} bytes, and {free:,} are free"
    peaks = [each.peak_bytes for _, made in candidates for each in made if each.peak_bytes is not None]
    memory = _memory()
    if memory is not None and max(peaks, default=0) > memory:
        yield f"a step may take {max(peaks):,} bytes of memory, and this machine has {memory:,}"


def surely_too_large(outlook: Outlook) -> bool:
    """Whether no run of it fits on the disk: even the smallest candidate, as small as forecasts may be wrong."""
    sizes = [sum(each.size_bytes or 0 for each in made) for _, made in outlook.candidates]
    nothing_there = not any(step["cached"] is not False for step in outlook.steps)
    return nothing_there and CERTAIN * min(sizes, default=0) > outlook.free_bytes


def _json(made: Made) -> dict[str, Any]:
    named = {"name": made.name, "type": made.kind, "system": made.system}
    return {**named, "size_bytes": made.size_bytes, "peak_bytes": made.peak_bytes}


def _there(folder: Path) -> Path:
    """The nearest folder that exists."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _memory() -> int | None:
    """Bytes of memory that this machine has; None where that can't be told."""
    import psutil

    return int(psutil.virtual_memory().total)

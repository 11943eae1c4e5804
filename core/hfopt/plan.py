"""The graph of steps that a run config asks for, and its keys.

Nothing here runs a step: `hfopt.engine` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfopt.api.config import Config
from hfopt.api.model import Accelerator
from hfopt.config.document import read
from hfopt.config.resolve import Chosen, Figure, RunConfig, resolve
from hfopt.keys import by_content, key_of
from hfopt.plugins import Offer, Plugins
from hfopt.protocol import StepKind, StepRequest
from hfopt.steps.evaluate import EvaluateConfig, MetricRequest
from hfopt.steps.timing import TIMED_KINDS, MeasureConfig, TimedFigure, TimingConfig

CPU_PROVIDERS = ("CPUExecutionProvider",)


@dataclass(frozen=True, eq=False)
class Step:
    """One unit of work: what is done to the results of which other steps, and where.

    :param name: for people: the pass's name in the config, ``input_model``, ``evaluate quantization``
    :param needs: the components whose versions are part of the key
    :param measures: its result depends on the machine
    """

    name: str
    kind: StepKind
    component: str
    config: Config
    inputs: Mapping[str, Step]
    system: str
    accelerator: Accelerator
    needs: tuple[Offer, ...]
    paths: tuple[Path, ...] = ()
    measures: bool = False

    def with_parents(self) -> Iterator[Step]:
        """This step and all that it needs, each after its parents."""
        seen: list[Step] = []

        def visit(step: Step) -> None:
            if step in seen:
                return
            for parent in step.inputs.values():
                visit(parent)
            seen.append(step)

        visit(self)
        yield from seen


@dataclass(frozen=True)
class Branch:
    """What is done for one accelerator.

    :param model: the step that yields the input model
    :param passes: in order; the last one's model is the candidate
    :param evaluations: evaluate steps of the input model and of the candidate, one per data config
    :param measurements: the candidate timed against the input model, one for each data config and way of timing
    """

    accelerator: Accelerator
    model: Step
    passes: tuple[Step, ...]
    input_evaluations: tuple[Step, ...]
    evaluations: tuple[Step, ...]
    measurements: tuple[Step, ...]

    def steps(self) -> list[Step]:
        """Every step once, each after its parents."""
        ends = (*self.passes[-1:], *self.input_evaluations, *self.evaluations, *self.measurements)
        return list(dict.fromkeys(step for end in ends for step in end.with_parents()))


@dataclass(frozen=True)
class Plan:
    """All that a run will do.

    :param skipped: accelerators that are left out, with the reason
    """

    config: RunConfig
    branches: tuple[Branch, ...]
    skipped: tuple[tuple[Accelerator, str], ...] = ()
    notices: tuple[str, ...] = field(default=())

    def steps(self) -> list[Step]:
        """Every step once, each after its parents."""
        return list(dict.fromkeys(step for branch in self.branches for step in branch.steps()))


def validate(config: Path | str | dict[str, Any], *, plugin_files: Sequence[Path] = ()) -> RunConfig:
    """Check a config without running or fetching anything.

    :param config: a .json, .yaml or .toml file, or the same as a dictionary
    :raises ConfigError: every mistake, with its place
    :raises UsageError: the file can't be read
    """
    return resolve(read(config), Plugins.discover(plugin_files))


def plan(config: Path | str | dict[str, Any], *, plugin_files: Sequence[Path] = ()) -> Plan:
    """The steps that a config asks for.

    :raises ConfigError: every mistake, with its place
    """
    return build(validate(config, plugin_files=plugin_files))


def build(config: RunConfig) -> Plan:
    """The steps of a resolved config: one branch for each accelerator of the target."""
    wanted = _accelerators(config)
    usable = [accelerator for accelerator in wanted if _why_not(accelerator) is None]
    skipped = tuple((accelerator, reason) for accelerator in wanted if (reason := _why_not(accelerator)))
    return Plan(config, tuple(_branch(config, accelerator) for accelerator in usable), skipped, config.notices)


def _accelerators(config: RunConfig) -> list[Accelerator]:
    system = config.systems[config.target].config
    wanted = [
        Accelerator(device=entry.device, execution_provider=provider)
        for entry in getattr(system, "accelerators", ())
        for provider in entry.execution_providers or CPU_PROVIDERS
    ]
    return list(dict.fromkeys(wanted)) or [Accelerator()]


def _why_not(accelerator: Accelerator) -> str | None:
    if accelerator.device == "cpu" and accelerator.execution_provider in CPU_PROVIDERS:
        return None
    return "this version runs on the CPU with CPUExecutionProvider only"


def _branch(config: RunConfig, accelerator: Accelerator) -> Branch:
    source = config.input_model
    model = _step(config, "input_model", "fetch", source, {}, accelerator, config.host)
    data = {
        name: _step(config, f"data {name}", "data", chosen, {}, accelerator, config.host)
        for name, chosen in config.data.items()
    }
    current, passes = model, []
    for name, chosen in config.passes.items():
        inputs = {"model": current, **{f"data.{used}": data[used] for used in chosen.data}}
        system = config.target if chosen.cls.measures else config.host
        current = _step(config, name, "pass", chosen, inputs, accelerator, system, measures=chosen.cls.measures)
        passes.append(current)
    input_evaluations: tuple[Step, ...] = ()
    if config.engine.evaluate_input_model:
        input_evaluations = tuple(_evaluations(config, model, data, accelerator, {}))
    baselines = {step.inputs["data"]: step for step in input_evaluations}
    return Branch(
        accelerator=accelerator,
        model=model,
        passes=tuple(passes),
        input_evaluations=input_evaluations,
        evaluations=tuple(_evaluations(config, current, data, accelerator, baselines)),
        measurements=tuple(_measurements(config, model, current, data, accelerator)),
    )


def _step(
    config: RunConfig,
    name: str,
    kind: StepKind,
    chosen: Chosen,
    inputs: Mapping[str, Step],
    accelerator: Accelerator,
    system: str,
    measures: bool = False,
) -> Step:
    return Step(
        name=name,
        kind=kind,
        component=chosen.offer.full_name,
        config=chosen.config,
        inputs=inputs,
        system=system,
        accelerator=accelerator,
        needs=(chosen.offer,),
        paths=chosen.paths,
        measures=measures,
    )


def _evaluations(
    config: RunConfig,
    model: Step,
    data: Mapping[str, Step],
    accelerator: Accelerator,
    baselines: Mapping[Step, Step],
) -> Iterator[Step]:
    """One evaluate step for each data config that an accuracy metric names."""
    for name, figures in _by_data(config.figures, "accuracy").items():
        backends = tuple(dict.fromkeys(figure.backend for figure in figures if figure.backend is not None))
        requests = tuple(
            MetricRequest(
                key=figure.key, backend=figure.backend.full_name, name=figure.name, options=dict(figure.options)
            )
            for figure in figures
            if figure.backend is not None
        )
        inputs = {"model": model, "data": data[name]}
        if data[name] in baselines:
            inputs["baseline"] = baselines[data[name]]
        yield Step(
            name=f"evaluate {model.name}",
            kind="evaluate",
            component="hfopt:evaluate",
            config=EvaluateConfig(metrics=requests),
            inputs=inputs,
            system=config.target,
            accelerator=accelerator,
            needs=(*backends, config.data[name].offer),
        )


def _measurements(
    config: RunConfig, model: Step, candidate: Step, data: Mapping[str, Step], accelerator: Accelerator
) -> Iterator[Step]:
    """One measure step for each data config that is timed on, and each way of timing on it."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in config.figures:
        if figure.kind in TIMED_KINDS and figure.data is not None:
            groups.setdefault((figure.data, str(sorted(figure.options.items()))), []).append(figure)
    for (name, _), figures in groups.items():
        wanted = {
            figure.key: TimedFigure.model_validate({"kind": figure.kind, "name": figure.name}) for figure in figures
        }
        yield Step(
            name=f"measure {candidate.name}",
            kind="measure",
            component="hfopt:measure",
            config=MeasureConfig(figures=wanted, timing=TimingConfig(**figures[0].options)),
            inputs={"baseline": model, "candidate": candidate, "data": data[name]},
            system=config.target,
            accelerator=accelerator,
            needs=(config.data[name].offer,),
            measures=True,
        )


def _by_data(figures: Sequence[Figure], kind: str) -> dict[str, list[Figure]]:
    grouped: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.kind == kind and figure.data is not None:
            grouped.setdefault(figure.data, []).append(figure)
    return grouped


@dataclass(frozen=True)
class Identity:
    """A step's key, and what it was made of."""

    key: str
    recipe: Mapping[str, Any]


def identities(
    steps: Sequence[Step],
    digests: Mapping[str, str],
    versions: Mapping[Step, Mapping[str, Any]],
    machines: Mapping[str, Mapping[str, Any]],
) -> dict[Step, Identity]:
    """Every step's key and recipe.

    :param steps: each after its parents
    :param digests: of the input paths, by absolute path
    :param versions: what matters to each step's components where it runs
    :param machines: what timings depend on, by system
    """
    known: dict[Step, Identity] = {}
    for step in steps:
        recipe = {
            "kind": step.kind,
            "component": step.component,
            "versions": versions[step],
            "config": by_content(step.config.model_dump(mode="json"), digests),
            "inputs": {role: known[parent].key for role, parent in step.inputs.items()},
            "accelerator": step.accelerator.model_dump(),
            "machine": machines[step.system] if step.measures else None,
        }
        known[step] = Identity(key_of(recipe), recipe)
    return known


def request(step: Step, identities: Mapping[Step, Identity], threads: int) -> StepRequest:
    """The step as a worker gets it."""
    return StepRequest(
        key=identities[step].key,
        name=step.name,
        kind=step.kind,
        component=step.component,
        config=step.config.model_dump(mode="json"),
        inputs={role: identities[parent].key for role, parent in step.inputs.items()},
        recipe=dict(identities[step].recipe),
        accelerator=step.accelerator,
        threads=threads,
        measures=step.measures,
    )

"""The graph of steps that a run config asks for.

Nothing here runs a step (`hfopt.engine` does) or knows its key (`hfopt.identity`). Not named ``plan``: a module of that
name would hide `hfopt.plan`, the function.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfopt.api.config import Config
from hfopt.api.model import Accelerator
from hfopt.config.document import read
from hfopt.config.figures import Figure
from hfopt.config.findings import Chosen
from hfopt.config.resolve import DEFAULT_SYSTEM, RunConfig, resolve
from hfopt.parity import Parity
from hfopt.plugins import Offer, Plugins
from hfopt.protocol import StepKind
from hfopt.steps.evaluate import EvaluateConfig, MetricRequest
from hfopt.steps.timing import TIMED_KINDS, MeasureConfig, TimedFigure, TimingConfig

CPU_PROVIDERS = ("CPUExecutionProvider",)
DEFAULT_PROVIDERS = {"cpu": CPU_PROVIDERS, "gpu": ("CUDAExecutionProvider",), "npu": ("QNNExecutionProvider",)}
"""What runs on a device where the config names no execution provider."""
ANY_ACCELERATOR = Accelerator()
"""Of steps that are the same for all."""


@dataclass(frozen=True, eq=False)
class Step:
    """One unit of work: what is done to the results of which other steps, and where.

    :param name: for people: the pass's name in the config, ``input_model``, ``evaluate quantization``
    :param inputs: earlier steps by role: ``model``, ``data.<name>``, ``baseline``, a reference's token
    :param needs: the components whose versions are part of the key
    :param measures: its result depends on the machine
    :param token: of the reference that it fetches, if it is a resource's
    :param parity: how its model's outputs are compared with those of its input, if they are
    """

    name: str
    kind: StepKind
    component: str
    config: Config
    inputs: Mapping[str, Step]
    system: str
    accelerator: Accelerator
    needs: tuple[Offer, ...] = ()
    paths: tuple[Path, ...] = ()
    measures: bool = False
    token: str | None = None
    parity: Parity | None = None

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
class Candidate:
    """A model that is measured.

    :param passes: what made it, in order
    :param figures: what it is measured by
    :param input_evaluations: evaluate steps of the input model, for the same figures; none unless wanted
    :param evaluations: its own evaluate steps, one per data config
    :param measurements: it, timed against the input model, one for each data config and way of timing
    """

    passes: tuple[Step, ...]
    figures: tuple[Figure, ...]
    input_evaluations: tuple[Step, ...]
    evaluations: tuple[Step, ...]
    measurements: tuple[Step, ...]

    @property
    def model(self) -> Step:
        """The step that makes it."""
        return self.passes[-1]

    def steps(self) -> list[Step]:
        """Every step that it takes, each after its parents."""
        ends = (self.model, *self.evaluations, *self.measurements)
        return list(dict.fromkeys(step for end in ends for step in end.with_parents()))


@dataclass(frozen=True)
class Branch:
    """What is done for one accelerator.

    :param model: the step that yields the input model
    :param candidates: models that are measured; the last is the result
    """

    accelerator: Accelerator
    model: Step
    candidates: tuple[Candidate, ...]

    @property
    def result(self) -> Candidate:
        """The last pass's model."""
        return self.candidates[-1]

    def steps(self) -> list[Step]:
        """Every step once, each after its parents."""
        inputs = (step for candidate in self.candidates for step in candidate.input_evaluations)
        own = (step for candidate in self.candidates for step in candidate.steps())
        return list(dict.fromkeys(step for end in (*inputs, *own) for step in end.with_parents()))


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
    """The steps that a config asks for, as if every accelerator that it names were there.

    :raises ConfigError: every mistake, with its place
    """
    return build(validate(config, plugin_files=plugin_files), {})


def accelerators(config: RunConfig) -> list[Accelerator]:
    """What the target is asked to run on: the CPU unless the config says."""
    system = config.systems[config.target].config
    wanted = [
        Accelerator(device=entry.device, execution_provider=provider)
        for entry in getattr(system, "accelerators", ())
        for provider in entry.execution_providers or DEFAULT_PROVIDERS.get(entry.device, CPU_PROVIDERS)
    ]
    return list(dict.fromkeys(wanted)) or [ANY_ACCELERATOR]


def build(config: RunConfig, unavailable: Mapping[Accelerator, str]) -> Plan:
    """The steps of a resolved config: one branch for each accelerator of the target.

    :param unavailable: accelerators to leave out, with the reason
    """
    wanted = accelerators(config)
    builder = _Builder(config)
    branches = tuple(builder.branch(accelerator) for accelerator in wanted if accelerator not in unavailable)
    skipped = tuple((accelerator, unavailable[accelerator]) for accelerator in wanted if accelerator in unavailable)
    return Plan(config, branches, skipped, config.notices)


class _Builder:
    """Makes steps, each only once: what branches and candidates share is one step."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.steps: dict[tuple[Any, ...], Step] = {}

    def branch(self, accelerator: Accelerator) -> Branch:
        """The steps for one accelerator."""
        config = self.config
        model = self._chosen("input_model", "fetch", config.input_model, {}, config.host)
        data = {name: self._chosen(f"data {name}", "data", each, {}, config.host) for name, each in config.data.items()}
        passes: list[Step] = []
        candidates: list[Candidate] = []
        for name, entry in config.passes.items():
            cls = entry.chosen.cls
            inputs = {"model": passes[-1] if passes else model} | {
                f"data.{used}": data[used] for used in entry.chosen.data
            }
            where = ANY_ACCELERATOR if cls.accelerator_agnostic else accelerator
            passes.append(
                self._chosen(
                    name, "pass", entry.chosen, inputs, entry.host, where, measures=cls.measures, parity=entry.parity
                )
            )
            last = name == list(config.passes)[-1]
            figures = config.figures if entry.figures is None and last else entry.figures
            if figures is not None:
                candidates.append(self._candidate(tuple(passes), figures, model, data, accelerator))
        return Branch(accelerator, model, tuple(candidates))

    def _candidate(
        self,
        passes: tuple[Step, ...],
        figures: tuple[Figure, ...],
        model: Step,
        data: Mapping[str, Step],
        accelerator: Accelerator,
    ) -> Candidate:
        input_evaluations: tuple[Step, ...] = ()
        if self.config.engine.evaluate_input_model:
            input_evaluations = tuple(self._evaluations(figures, model, data, accelerator, {}))
        baselines = {step.inputs["data"]: step for step in input_evaluations}
        return Candidate(
            passes=passes,
            figures=figures,
            input_evaluations=input_evaluations,
            evaluations=tuple(self._evaluations(figures, passes[-1], data, accelerator, baselines)),
            measurements=tuple(self._measurements(figures, model, passes[-1], data, accelerator)),
        )

    def _evaluations(
        self,
        figures: Sequence[Figure],
        model: Step,
        data: Mapping[str, Step],
        accelerator: Accelerator,
        baselines: Mapping[Step, Step],
    ) -> Iterator[Step]:
        """One evaluate step for each data config that an accuracy metric names."""
        for name, own in _by_data(figures).items():
            requests = tuple(
                MetricRequest(key=each.key, backend=backend.full_name, name=each.name, options=dict(each.options))
                for each, backend in own
            )
            inputs = {"model": model, "data": data[name]}
            if data[name] in baselines:
                inputs["baseline"] = baselines[data[name]]
            backends = tuple(dict.fromkeys(backend for _, backend in own))
            yield self._step(
                name=f"evaluate {model.name}",
                kind="evaluate",
                component="hfopt:evaluate",
                config=EvaluateConfig(metrics=requests),
                inputs=inputs,
                system=self.config.target,
                accelerator=accelerator,
                needs=(*backends, self.config.data[name].offer),
            )

    def _measurements(
        self,
        figures: Sequence[Figure],
        model: Step,
        candidate: Step,
        data: Mapping[str, Step],
        accelerator: Accelerator,
    ) -> Iterator[Step]:
        """One measure step for each data config that is timed on, and each way of timing on it."""
        groups: dict[tuple[str, str], list[Figure]] = {}
        for figure in figures:
            if figure.kind in TIMED_KINDS and figure.data is not None:
                groups.setdefault((figure.data, str(sorted(figure.options.items()))), []).append(figure)
        for (name, _), own in groups.items():
            wanted = {each.key: TimedFigure.model_validate({"kind": each.kind, "name": each.name}) for each in own}
            yield self._step(
                name=f"measure {candidate.name}",
                kind="measure",
                component="hfopt:measure",
                config=MeasureConfig(figures=wanted, timing=TimingConfig(**own[0].options)),
                inputs={"baseline": model, "candidate": candidate, "data": data[name]},
                system=self.config.target,
                accelerator=accelerator,
                needs=(self.config.data[name].offer,),
                measures=True,
            )

    def _chosen(
        self,
        name: str,
        kind: StepKind,
        chosen: Chosen,
        inputs: Mapping[str, Step],
        system: str,
        accelerator: Accelerator = ANY_ACCELERATOR,
        *,
        measures: bool = False,
        parity: Parity | None = None,
    ) -> Step:
        """A step of a component; what its options refer to is fetched beforehand, on this machine."""
        fetched = {token: self._fetch(token, resource) for token, resource in chosen.resources.items()}
        return self._step(
            name=name,
            kind=kind,
            component=chosen.offer.full_name,
            config=chosen.config,
            inputs={**inputs, **fetched},
            system=system,
            accelerator=accelerator,
            needs=(chosen.offer,),
            paths=chosen.paths,
            measures=measures,
            parity=parity,
        )

    def _fetch(self, token: str, resource: Chosen) -> Step:
        return self._step(
            name=f"fetch {getattr(resource.config, 'name', resource.offer.component.name)}",
            kind="fetch",
            component=resource.offer.full_name,
            config=resource.config,
            inputs={},
            system=DEFAULT_SYSTEM,
            accelerator=ANY_ACCELERATOR,
            token=token,
        )

    def _step(self, **fields: Any) -> Step:
        inputs = tuple(sorted((role, id(parent)) for role, parent in fields["inputs"].items()))
        config = json.dumps(fields["config"].model_dump(mode="json"), sort_keys=True)
        told = (fields["kind"], fields["component"], config, fields.get("parity"))
        same = (*told, inputs, fields["system"], fields["accelerator"])
        return self.steps.setdefault(same, Step(**fields))


def _by_data(figures: Sequence[Figure]) -> dict[str, list[tuple[Figure, Offer]]]:
    """Accuracy figures and who computes them, by data config."""
    grouped: dict[str, list[tuple[Figure, Offer]]] = {}
    for figure in figures:
        if figure.data is not None and figure.backend is not None:
            grouped.setdefault(figure.data, []).append((figure, figure.backend))
    return grouped

"""From a run config to the graph of steps that it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hfopt.api.model import Accelerator
from hfopt.api.parity import Parity
from hfopt.api.protocol import StepKind
from hfopt.api.timing import TIMED_KINDS, MeasureConfig, TimedFigure, TimingConfig
from hfopt.config.checker import ConfiguredComponent
from hfopt.config.document import read
from hfopt.config.figures import Figure
from hfopt.config.resolve import DEFAULT_SYSTEM, RunConfig, resolve
from hfopt.discovery.plugins import Plugins, RegisteredComponent
from hfopt.planning.graph import Branch, Candidate, Plan, Step
from hfopt.planning.tasks import EvaluateConfig, MetricRequest

CPU_PROVIDERS = ("CPUExecutionProvider",)
DEFAULT_PROVIDERS = {"cpu": CPU_PROVIDERS, "gpu": ("CUDAExecutionProvider",), "npu": ("QNNExecutionProvider",)}
"""What runs on a device where the config names no execution provider."""
ANY_ACCELERATOR = Accelerator()
"""Of steps that are the same for all."""


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
        model = self._component_step("input_model", "fetch", config.input_model, {}, config.host)
        data = {
            name: self._component_step(f"data {name}", "data", each, {}, config.host)
            for name, each in config.data.items()
        }
        passes: list[Step] = []
        candidates: list[Candidate] = []
        for name, entry in config.passes.items():
            cls = entry.component.cls
            inputs = {"model": passes[-1] if passes else model} | {
                f"data.{used}": data[used] for used in entry.component.data
            }
            where = ANY_ACCELERATOR if cls.accelerator_agnostic else accelerator
            passes.append(
                self._component_step(
                    name, "pass", entry.component, inputs, entry.host, where, measures=cls.measures, parity=entry.parity
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
                needs=(*backends, self.config.data[name].registered),
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
                needs=(self.config.data[name].registered,),
                measures=True,
            )

    def _component_step(
        self,
        name: str,
        kind: StepKind,
        chosen: ConfiguredComponent,
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
            component=chosen.registered.full_name,
            config=chosen.config,
            inputs={**inputs, **fetched},
            system=system,
            accelerator=accelerator,
            needs=(chosen.registered,),
            paths=chosen.paths,
            measures=measures,
            parity=parity,
        )

    def _fetch(self, token: str, resource: ConfiguredComponent) -> Step:
        return self._step(
            name=f"fetch {getattr(resource.config, 'name', resource.registered.component.name)}",
            kind="fetch",
            component=resource.registered.full_name,
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


def _by_data(figures: Sequence[Figure]) -> dict[str, list[tuple[Figure, RegisteredComponent]]]:
    """Accuracy figures and who computes them, by data config."""
    grouped: dict[str, list[tuple[Figure, RegisteredComponent]]] = {}
    for figure in figures:
        if figure.data is not None and figure.backend is not None:
            grouped.setdefault(figure.data, []).append((figure, figure.backend))
    return grouped

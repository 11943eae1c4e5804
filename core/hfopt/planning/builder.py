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
from hfopt.config.resolve import DEFAULT_SYSTEM, ConfiguredPass, RunConfig, resolve
from hfopt.discovery.plugins import Plugins, RegisteredComponent
from hfopt.planning.graph import Branch, Candidate, Plan, Step
from hfopt.planning.tasks import MetricRequest, PredictConfig, ScoreConfig

CPU_PROVIDERS = ("CPUExecutionProvider",)
DEFAULT_PROVIDERS = {"cpu": CPU_PROVIDERS, "gpu": ("CUDAExecutionProvider",), "npu": ("QNNExecutionProvider",)}
"""What runs on a device where the config names no execution provider."""
ANY_ACCELERATOR = Accelerator()
"""Of steps that are the same for all."""
LOCAL = "hfopt:LocalSystem"
THIS_MACHINE = "(this machine)"
"""A system of every run: not one that a config can name."""


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
    plugins = Plugins.discover(plugin_files)
    return Builder(resolve(read(config), plugins), plugins).plan({})


def accelerators(config: RunConfig) -> list[Accelerator]:
    """What the target is asked to run on: the CPU unless the config says."""
    system = config.systems[config.target].config
    wanted = [
        Accelerator(device=entry.device, execution_provider=provider)
        for entry in getattr(system, "accelerators", ())
        for provider in entry.execution_providers or DEFAULT_PROVIDERS.get(entry.device, CPU_PROVIDERS)
    ]
    return list(dict.fromkeys(wanted)) or [ANY_ACCELERATOR]


def fetching_system(config: RunConfig) -> str:
    """The system that makes requests: this machine, where the network is, whatever the config calls local_system."""
    return DEFAULT_SYSTEM if config.systems[DEFAULT_SYSTEM].registered.full_name == LOCAL else THIS_MACHINE


class Builder:
    """Makes steps, each only once: what branches and candidates share is one step."""

    def __init__(self, config: RunConfig, plugins: Plugins) -> None:
        self.config = config
        self.plugins = plugins
        self.steps: dict[tuple[Any, ...], Step] = {}
        self.fetching = fetching_system(config)

    def plan(self, unavailable: Mapping[Accelerator, str]) -> Plan:
        """The steps of the config: one branch for each accelerator of the target.

        :param unavailable: accelerators to leave out, with the reason
        """
        wanted = accelerators(self.config)
        branches = tuple(self._branch(accelerator) for accelerator in wanted if accelerator not in unavailable)
        skipped = tuple((accelerator, unavailable[accelerator]) for accelerator in wanted if accelerator in unavailable)
        return Plan(self.config, branches, skipped, self.config.notices)

    def _branch(self, accelerator: Accelerator) -> Branch:
        """The steps for one accelerator: a candidate after the last pass, and after each that has an evaluator."""
        config = self.config
        branch = Branch(
            accelerator,
            self._component_step("input_model", "fetch", config.input_model, {}, config.host),
            {
                name: self._component_step(f"data {name}", "data", each, {}, config.host)
                for name, each in config.data.items()
            },
        )
        taken: dict[str, ConfiguredPass] = {}
        for name, entry in config.passes.items():
            taken[name] = entry
            figures = config.figures if entry.figures is None and len(taken) == len(config.passes) else entry.figures
            if figures is not None:
                branch.candidates.append(self.candidate(branch, taken, figures))
        return branch

    def candidate(
        self,
        branch: Branch,
        passes: Mapping[str, ConfiguredPass],
        figures: tuple[Figure, ...],
        *,
        required: bool = True,
    ) -> Candidate:
        """The model that some passes make of a branch's input model, one after another, and what is found of it.

        :param required: whether the run fails if it does
        """
        loader = self.config.input_model.registered
        steps = [branch.model]
        loaders = [loader]
        for name, entry in passes.items():
            step, loader = self._pass(branch, name, entry, steps[-1], loader)
            steps.append(step)
            loaders.append(loader)
        model, accelerator = steps[-1], branch.accelerator
        before: dict[str, Step] = {}
        if self.config.engine.evaluate_input_model:
            before = {name: self._predict(branch, branch.model, loaders[0], name) for name in _by_data(figures)}
        own = {name: self._predict(branch, model, loaders[-1], name) for name in _by_data(figures)}
        return Candidate(
            passes=tuple(steps[1:]),
            figures=figures,
            baseline=tuple(self._scores(figures, branch.model, before, {}, accelerator)),
            scores=tuple(self._scores(figures, model, own, before, accelerator)),
            measurements=tuple(self._measurements(branch, figures, model, (loaders[0], loaders[-1]))),
            required=required,
        )

    def _pass(
        self, branch: Branch, name: str, entry: ConfiguredPass, model: Step, loader: RegisteredComponent
    ) -> tuple[Step, RegisteredComponent]:
        """A pass's step, and the loader of what it makes."""
        cls = entry.component.cls
        made = loader if cls.produces is None else self.plugins.find("hfopt_model_loaders", cls.produces)
        data = {f"data.{used}": branch.data[used] for used in entry.component.data}
        step = self._component_step(
            name,
            "pass",
            entry.component,
            {"model": model, **data},
            entry.host,
            ANY_ACCELERATOR if cls.accelerator_agnostic else branch.accelerator,
            opens=(loader, made, *(self.config.data[used].registered for used in entry.component.data)),
            measures=cls.measures,
            parity=entry.parity,
        )
        return step, made

    def _predict(self, branch: Branch, model: Step, loader: RegisteredComponent, data: str) -> Step:
        return self._step(
            name=f"predict {model.name}",
            kind="predict",
            component="hfopt:predict",
            config=PredictConfig(),
            inputs={"model": model, "data": branch.data[data]},
            system=self.config.target,
            accelerator=branch.accelerator,
            needs=(loader, self.config.data[data].registered),
        )

    def _scores(
        self,
        figures: Sequence[Figure],
        model: Step,
        predictions: Mapping[str, Step],
        baselines: Mapping[str, Step],
        accelerator: Accelerator,
    ) -> Iterator[Step]:
        """One score step for each data config that a model has predictions for."""
        wanted = _by_data(figures)
        for name, predicted in predictions.items():
            requests = tuple(
                MetricRequest(key=each.key, backend=backend.full_name, name=each.name, options=dict(each.options))
                for each, backend in wanted[name]
            )
            yield self._step(
                name=f"score {model.name}",
                kind="score",
                component="hfopt:score",
                config=ScoreConfig(metrics=requests),
                inputs=({"baseline": baselines[name]} if name in baselines else {}) | {"predictions": predicted},
                system=self.config.target,
                accelerator=accelerator,
                needs=tuple(dict.fromkeys(backend for _, backend in wanted[name])),
            )

    def _measurements(
        self,
        branch: Branch,
        figures: Sequence[Figure],
        candidate: Step,
        loaders: tuple[RegisteredComponent, RegisteredComponent],
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
                inputs={"baseline": branch.model, "candidate": candidate, "data": branch.data[name]},
                system=self.config.target,
                accelerator=branch.accelerator,
                needs=(*loaders, self.config.data[name].registered),
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
        opens: tuple[RegisteredComponent, ...] = (),
        measures: bool = False,
        parity: Parity | None = None,
    ) -> Step:
        """A step of a component; what its options refer to is fetched beforehand, where the network is.

        :param opens: the components that open what it works on
        """
        fetched = {token: self._fetch(token, resource) for token, resource in chosen.resources.items()}
        return self._step(
            name=name,
            kind=kind,
            component=chosen.registered.full_name,
            config=chosen.config,
            inputs={**inputs, **fetched},
            system=system,
            accelerator=accelerator,
            needs=tuple(dict.fromkeys((chosen.registered, *opens))),
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
            system=self.fetching,
            accelerator=ANY_ACCELERATOR,
            needs=(resource.registered,),
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

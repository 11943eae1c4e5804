"""From a run config to the graph of steps that it asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hfopt.api.config import Config
from hfopt.api.model import Accelerator
from hfopt.api.protocol import StepKind
from hfopt.api.timing import DECODE, TIMED_KINDS, MeasureConfig, TimedFigure, TimingConfig
from hfopt.base.component import PROJECT
from hfopt.config.checker import ConfiguredComponent
from hfopt.config.document import read
from hfopt.config.figures import Figure
from hfopt.config.resolve import DEFAULT_SYSTEM, RunConfig, resolve
from hfopt.config.space import ConfiguredPass
from hfopt.discovery.plugins import Plugins
from hfopt.planning.graph import BEGUN, RIVAL, Branch, Candidate, Look, Plan, Step, closure
from hfopt.planning.tasks import MetricRequest, PredictConfig, ScoreConfig

DEFAULT_PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider", "npu": "QNNExecutionProvider"}
"""What runs on a device where the config names no execution provider."""
PLAIN_CPU = Accelerator()
"""What models run on unless the config says; also the accelerator of steps that are the same for all."""
LOCAL = f"{PROJECT}:LocalSystem"
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
        for provider in entry.execution_providers or (DEFAULT_PROVIDERS[entry.device],)
    ]
    return list(dict.fromkeys(wanted)) or [PLAIN_CPU]


class Builder:
    """Makes steps, each only once: what branches and candidates share is one step.

    Its ``fetching`` is the system that makes requests: this machine, where the network is, whatever the config calls
    local_system. It serves all systems of the config: ``hf_token`` is true if it is so of one of them. But what lies on
    the hub is downloaded by the first that logs in there by itself, ``from_hub``.
    """

    def __init__(self, config: RunConfig, plugins: Plugins) -> None:
        self.config = config
        self.plugins = plugins
        self.steps: dict[tuple[Any, ...], Step] = {}
        local = config.systems[DEFAULT_SYSTEM].registered.full_name == LOCAL
        self.fetching = DEFAULT_SYSTEM if local else THIS_MACHINE
        used = {name: config.systems[name].config for name in (config.host, config.target, *config.hosts)}
        own = [name for name, options in used.items() if getattr(options, "logs_in", False)]
        self.from_hub = own[0] if own else self.fetching
        said = [getattr(options, "hf_token", None) for name, options in used.items() if name not in own]
        self.hf_token = True if True in said else False if False in said else None

    def plan(self, unavailable: Mapping[Accelerator, str]) -> Plan:
        """The steps of the config: one branch for each accelerator of the target.

        :param unavailable: accelerators to leave out, with the reason
        """
        wanted = accelerators(self.config)
        branches = tuple(self._branch(accelerator) for accelerator in wanted if accelerator not in unavailable)
        skipped = tuple((accelerator, unavailable[accelerator]) for accelerator in wanted if accelerator in unavailable)
        return Plan(self.config, branches, skipped)

    def distributions(self) -> dict[str, tuple[str, ...]]:
        """The distributions of the plugins that the steps of each system may need, by its name."""
        found: dict[str, dict[str, None]] = {}
        for branch in self.plan({}).branches:
            candidates = branch.candidates
            if self.config.search is not None:
                every = self.config.search.space.every()
                candidates = [self.candidate(branch, {name: entry}, self.config.figures) for name, entry in every]
            for step in closure(step for each in candidates for step in (*each.steps(), *each.baseline)):
                named = (each.distribution for each in step.needs if each.distribution is not None)
                found.setdefault(step.system, {}).update(dict.fromkeys(named))
        return {name: tuple(sorted(needed)) for name, needed in found.items()}

    def _branch(self, accelerator: Accelerator) -> Branch:
        """The steps for one accelerator: a candidate after the last pass, and after each that has an evaluator.

        A search has none at first.
        """
        config = self.config
        model = self._component_step("input_model", "fetch", config.input_model, {})
        data = {name: self._component_step(f"data {name}", "data", each, {}) for name, each in config.data.items()}
        branch = Branch(accelerator, model, data)
        taken: dict[str, ConfiguredPass] = {}
        for name, entry in config.passes.items() if config.search is None else ():
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
        choices: Mapping[str, Any] | None = None,
        shares: Sequence[int] = (),
    ) -> Candidate:
        """The model that some passes make of a branch's input model, one after another, and what is found of it.

        :param required: whether the run fails if it does
        :param choices: what a search has chosen
        :param shares: of the rows, that have been looked at
        """
        steps = self._models(branch, passes)
        compared = self.config.engine.evaluate_input_model
        before = {"baseline": branch.model} if compared else {}
        return Candidate(
            passes=tuple(steps[1:]),
            figures=figures,
            baseline=self._scores(branch, branch.model, figures, {}) if compared else (),
            scores=self._scores(branch, steps[-1], figures, before, (*shares, 1)),
            measurements=self.measurements(branch, branch.model, steps[-1], figures),
            required=required,
            choices=choices or {},
        )

    def _pass(self, branch: Branch, name: str, entry: ConfiguredPass, model: Step) -> Step:
        chosen, produces = entry.component, entry.component.cls.produces
        return self._component_step(
            name,
            "pass",
            chosen,
            {"model": model} | {f"data.{used}": branch.data[used] for used in chosen.data},
            system=entry.host,
            accelerator=PLAIN_CPU if chosen.cls.accelerator_agnostic else branch.accelerator,
            opener=model.opener if produces is None else self.plugins.find("hfopt_model_loaders", produces),
            measures=chosen.cls.measures,
            parity=entry.parity,
        )

    def look(
        self,
        branch: Branch,
        passes: Mapping[str, ConfiguredPass],
        incumbent: Candidate,
        least: Mapping[str, float],
        shares: Sequence[int],
    ) -> Look:
        """Whether the model that some passes make is a clear loser, by a share of the rows.

        :param incumbent: that it is compared with, on the same rows, by the same figures
        :param least: by key of a figure: which value it must have to be no loser
        :param shares: of the rows, that have been looked at before, and the one to look at now
        """
        figures = [figure for figure in incumbent.figures if figure.key in least]
        model, others = self._models(branch, passes)[-1], {"incumbent": incumbent.model}
        return Look(self._scores(branch, model, figures, others, shares, least))

    def chosen(self, branch: Branch, best: Candidate, rivals: Sequence[Candidate], figure: Figure) -> Look:
        """A candidate scored by the figure for which it was chosen, as what was chosen from several.

        :param rivals: the others
        """
        others = {f"{RIVAL}{number}": each.model for number, each in enumerate(rivals)}
        others |= {"baseline": branch.model} if best.baseline else {}
        return Look(self._scores(branch, best.model, [figure], others), last=True)

    def _models(self, branch: Branch, passes: Mapping[str, ConfiguredPass]) -> list[Step]:
        """The steps that make the input model, and one of each pass after another."""
        steps = [branch.model]
        for name, entry in passes.items():
            steps.append(self._pass(branch, name, entry, steps[-1]))
        return steps

    def _scores(
        self,
        branch: Branch,
        model: Step,
        figures: Sequence[Figure],
        others: Mapping[str, Step],
        shares: Sequence[int] = (1,),
        least: Mapping[str, float] | None = None,
    ) -> tuple[Step, ...]:
        """One score step for each data config that an accuracy metric names.

        :param others: the models that it is compared with, by role
        :param shares: see `look`
        :param least: see `look`
        """
        scores = []
        for (name, _), wanted in _by_data(figures).items():
            told = wanted[0][0].settings
            inputs = {role: self._predictions(branch, each, name, told) for role, each in others.items()}
            inputs["predictions"] = self._predictions(branch, model, name, told, shares)
            used = {token: each for _, backend in wanted for token, each in backend.resources.items()}
            inputs |= {token: self._fetch(token, each) for token, each in used.items()}
            requests = tuple(
                MetricRequest(
                    key=each.key, backend=backend.registered.full_name, name=each.name, options=dict(each.options)
                )
                for each, backend in wanted
            )
            own = tuple(backend.registered for _, backend in wanted)
            paths = tuple(dict.fromkeys(path for _, backend in wanted for path in backend.paths))
            bars = {each.key: least[each.key] for each, _ in wanted} if least else {}
            score = ScoreConfig(metrics=requests, share=shares[-1], least=bars)
            scores.append(self._core_step(branch, "score", model, score, inputs, own=own, paths=paths))
        return tuple(scores)

    def _predictions(
        self, branch: Branch, model: Step, data: str, settings: Mapping[str, Any], shares: Sequence[int] = (1,)
    ) -> Step:
        """What a model says of a share of the rows; each goes on where the one before ended."""
        inputs, chosen = {"model": model, "data": branch.data[data]}, self.config.data[data]
        paths = chosen.paths if chosen.cls(chosen.config).predicts_with_paths else ()
        for share in shares:
            config = PredictConfig(settings=dict(settings), share=share)
            step = self._core_step(branch, "predict", model, config, inputs, paths=paths)
            inputs = {**inputs, BEGUN: step}
        return step

    def measurements(
        self, branch: Branch, baseline: Step, candidate: Step, figures: Sequence[Figure], *, decides: bool = False
    ) -> tuple[Step, ...]:
        """One model timed against another: a step for each data config that is timed on, and each way of timing.

        :param decides: whether it tells which of the two is chosen
        """
        groups: dict[tuple[str, str, str, bool], list[Figure]] = {}
        for figure in figures:
            if figure.kind in TIMED_KINDS and figure.data is not None:
                how = (str(sorted(figure.options.items())), _told(figure), figure.name == DECODE)
                groups.setdefault((figure.data, *how), []).append(figure)
        steps = []
        for (name, *_), own in groups.items():
            wanted = {each.key: TimedFigure.model_validate({"kind": each.kind, "name": each.name}) for each in own}
            timing = TimingConfig(**own[0].options)
            config = MeasureConfig(figures=wanted, timing=timing, settings=dict(own[0].settings), decides=decides)
            inputs = {"baseline": baseline, "candidate": candidate, "data": branch.data[name]}
            steps.append(self._core_step(branch, "measure", candidate, config, inputs, measures=True))
        return tuple(steps)

    def _core_step(
        self, branch: Branch, kind: StepKind, model: Step, config: Config, inputs: Mapping[str, Step], **more: Any
    ) -> Step:
        """A step of the core's own, on the target."""
        place = {"system": self.config.target, "accelerator": branch.accelerator}
        share = getattr(config, "share", 1)
        name = f"{kind} {model.name}" + (f", 1/{share} of the rows" if share > 1 else "")
        named = {"name": name, "kind": kind, "component": f"{PROJECT}:{kind}"}
        return self._step(**named, **place, config=config, inputs=inputs, **more)

    def _component_step(
        self, name: str, kind: StepKind, chosen: ConfiguredComponent, inputs: Mapping[str, Step], **more: Any
    ) -> Step:
        """A step of a component; what its options refer to is fetched beforehand.

        :param more: what is not as usual: on the host, the same for all accelerators, its result opened by itself
        """
        fetched = {token: self._fetch(token, resource) for token, resource in chosen.resources.items()}
        usual = {"system": self.config.host, "accelerator": PLAIN_CPU, "opener": chosen.registered}
        return self._step(
            name=name,
            kind=kind,
            component=chosen.registered.full_name,
            config=chosen.config,
            inputs={**inputs, **fetched},
            own=(chosen.registered,),
            paths=chosen.paths,
            **{**usual, **more},
        )

    def _fetch(self, token: str, resource: ConfiguredComponent) -> Step:
        name = f"fetch {getattr(resource.config, 'name', resource.registered.component.name)}"
        place = self.from_hub if resource.cls.on_hub else self.fetching
        more = {"system": place, "token": token, "hf_token": self.hf_token, "opener": None}
        return self._component_step(name, "fetch", resource, {}, **more)

    def _step(self, **fields: Any) -> Step:
        inputs = tuple(sorted((role, id(each)) for role, each in fields["inputs"].items() if role != BEGUN))
        config = json.dumps(fields["config"].model_dump(mode="json"), sort_keys=True)
        told = tuple(fields[name] for name in ("kind", "component", "system", "accelerator"))
        return self.steps.setdefault((*told, config, inputs, fields.get("parity")), Step(**fields))


def _told(figure: Figure) -> str:
    """The inference settings of a figure, as what can be compared."""
    return json.dumps(figure.settings, sort_keys=True)


def _by_data(figures: Sequence[Figure]) -> dict[tuple[str, str], list[tuple[Figure, ConfiguredComponent]]]:
    """Accuracy figures and who computes them, by data config and inference settings."""
    grouped: dict[tuple[str, str], list[tuple[Figure, ConfiguredComponent]]] = {}
    for figure in figures:
        if figure.data is not None and figure.backend is not None:
            grouped.setdefault((figure.data, _told(figure)), []).append((figure, figure.backend))
    return grouped
